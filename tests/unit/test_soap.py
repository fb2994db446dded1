"""The session in a SOAP request: found in its one place, replaced there, and nowhere taken for data."""

from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import steps

from proxy.errors import AmbiguousKey, BadRequest, CallerError, CredentialPath
from proxy.forwarding.soap import session_of, with_token

KEY = steps.KEY
TOKEN = "00D5g!AQ0<&"
HEAD = b'<?xml version="1.0" encoding="utf-8"?>'
ENVELOPE = (
    b'<env:Envelope xmlns:env="http://schemas.xmlsoap.org/soap/envelope/" xmlns:m="urn:m">%b</env:Envelope>'
)
SESSION = b"<env:Header><m:SessionHeader><m:sessionId>%b</m:sessionId></m:SessionHeader></env:Header>"
BODY = b"<env:Body><m:query><m:q>SELECT Id FROM A WHERE a &gt; 1</m:q></m:query></env:Body>"


def replaced(body: bytes) -> bytes:
    return with_token(body, "sessionId", closed=("logout",), key=KEY, token=lambda: TOKEN)


@pytest.mark.parametrize("lead", [b"", HEAD, b"\xef\xbb\xbf" + HEAD, b"<!-- x -->\n"])
@pytest.mark.parametrize("blanks", [b"%b", b"\n  %b\n"])
def test_the_session_is_replaced_and_nothing_else(lead: bytes, blanks: bytes) -> None:
    """The key in the session's element becomes the token, escaped; every other byte stays."""
    before, after = (
        lead + ENVELOPE % (SESSION % value + BODY) for value in (blanks % KEY, b"00D5g!AQ0&lt;&amp;")
    )
    assert session_of(before, "sessionId").value == KEY
    assert replaced(before) == after


@pytest.mark.parametrize(
    "data",
    [
        b"<![CDATA[%b]]>" % (SESSION % KEY),
        b"<!-- %b -->" % (SESSION % KEY),
        SESSION % KEY,
        b"<m:SessionHeader><m:sessionId>%b</m:sessionId></m:SessionHeader>" % KEY,
    ],
)
def test_data_is_never_given_the_token(data: bytes) -> None:
    """An element of that name in the Body, a comment or CDATA would be a way to read the token: it stays as it is."""
    body = ENVELOPE % (b"<env:Body><m:create>%b</m:create></env:Body>" % data)
    assert session_of(body, "sessionId").value is None
    assert replaced(body) == body


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", BadRequest),
        (b"{}", BadRequest),
        (ENVELOPE % (SESSION % KEY) + b"x", BadRequest),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + ENVELOPE % (SESSION % KEY), BadRequest),
        (ENVELOPE % (SESSION % KEY * 2), BadRequest),
        (ENVELOPE % (SESSION % b"&#99;pk"), BadRequest),
        (ENVELOPE.decode().encode("utf-16"), BadRequest),
        (b'<?xml version="1.0" encoding="iso-8859-1"?>' + ENVELOPE % (SESSION % KEY), BadRequest),
        (ENVELOPE % (SESSION % b"00D5g!other"), AmbiguousKey),
        (ENVELOPE % (SESSION % KEY + b"<env:Body><m:logout/></env:Body>"), CredentialPath),
        (ENVELOPE % b"<env:Body><x:logout xmlns:x='urn:x'/></env:Body>", CredentialPath),
    ],
)
def test_what_is_refused(body: bytes, error: type[CallerError]) -> None:
    """Malformed or ambiguous XML, another credential, and calls that concern credentials do not go on."""
    with pytest.raises(error):
        replaced(body)


_PIECES = st.sampled_from(
    [
        *(b"<env:Header>", b"</env:Header>", b"<m:SessionHeader>", b"</m:SessionHeader>", b"<env:Body>"),
        *(b"<m:sessionId>", b"</m:sessionId>", b"<m:sessionId a='>'>", b"</env:Body>", b"<!--", b"-->", KEY),
        *(b"<![CDATA[", b"]]>", b"&#x63;", b"x", b" ", SESSION % KEY, b"<m:a>", b"</m:a>", b"<?pi ", b"?>"),
    ]
)


@given(st.lists(_PIECES, max_size=12).map(b"".join))
@example(SESSION % KEY)
def test_the_token_stands_where_another_parser_sees_the_session(inside: bytes) -> None:
    """Whatever is sent: refused, or the token is in the one element of the header, as ElementTree reads it."""
    try:
        sent = replaced(ENVELOPE % inside)
    except CallerError:
        return
    soap = "{http://schemas.xmlsoap.org/soap/envelope/}"
    tree = ET.fromstring(sent)  # noqa: S314  # made here, and a document type was refused
    found = [
        element.text for element in tree.findall(f"{soap}Header/{{urn:m}}SessionHeader/{{urn:m}}sessionId")
    ]
    everywhere = sent.count(b"00D5g!AQ0&lt;&amp;")
    assert everywhere == found.count(TOKEN)
    assert everywhere <= 1
