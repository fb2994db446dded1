"""Keys in request bodies, over real sockets: taken from declared fields, taken out of them, stopped elsewhere."""

import asyncio
from collections.abc import Iterator

import pytest
from support.lab import HOST, Lab
from support.proxy import TOKEN, service_file

pytestmark = pytest.mark.traced

FORM = b"application/x-www-form-urlencoded"
PLACES = """
[[key_places]]
in = "form"
name = "token"
paths = ["/api/*"]

[[key_places]]
in = "soap"
name = "sessionId"
paths = ["/soap/**"]

[[key_places]]
in = "soap"
name = "sessionId"
paths = ["/services/Soap/**"]
replace = true
closed = ["logout"]
"""


@pytest.fixture(scope="module")
def forms(runner, authority, tmp_path_factory) -> Iterator[Lab]:
    """A proxy with a service that declares a form field and a SOAP element as key places."""
    services = {"forms": service_file(f"https://{HOST}") + PLACES}
    lab = Lab(authority, tmp_path_factory.mktemp("forms"), services=services)
    runner.run(lab.start())
    with lab.proxy:
        yield lab
    runner.run(lab.stop())


def post(path: str, body: bytes, *fields: bytes, media: bytes = FORM) -> bytes:
    head = [b"POST %b HTTP/1.1" % path.encode(), b"Host: a", b"Content-Type: " + media, *fields]
    head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def bearer(lab: Lab) -> bytes:
    return b"Authorization: Bearer " + lab.proxy.key.encode()


async def answered(lab: Lab, data: bytes) -> int:
    await lab.fresh()
    async with lab.calling() as caller:
        await caller.send(data)
        return (await caller.answer()).status


def upstream_bytes(lab: Lab) -> bytes:
    return b"".join(bytes(peer.received) for peer in lab.upstream.peers)


async def test_a_key_in_the_declared_field_counts_and_goes(forms: Lab) -> None:
    """A form field is a key place where the file says so; the service gets the form without it, and the token."""
    key = forms.proxy.key.encode()
    assert await answered(forms, post("/forms/api/x", b"a=1&token=" + key + b"&b=2")) == 200
    sent = upstream_bytes(forms)
    assert key not in sent
    assert sent.endswith(b"Content-Length: 7\r\n\r\na=1&b=2")
    assert TOKEN.encode() in sent


async def test_a_key_in_header_and_form_is_taken_out_of_both(forms: Lab) -> None:
    """The same key twice is one key, and none of it goes on."""
    key = forms.proxy.key.encode()
    assert await answered(forms, post("/forms/api/x", b"token=" + key, bearer(forms))) == 200
    assert key not in upstream_bytes(forms)


@pytest.mark.parametrize("path", ["/forms/other/x", "/test/api/x"])
async def test_undeclared_places_are_no_key_places(forms: Lab, path: str) -> None:
    """Elsewhere a form without a key in the head is a request without a key."""
    assert await answered(forms, post(path, b"token=" + forms.proxy.key.encode())) == 401
    assert upstream_bytes(forms) == b""


async def test_another_body_streams_and_is_stopped_at_the_key(forms: Lab) -> None:
    """A body that is no form passes untouched and unbounded, but not with the key in it, however it is cut."""
    body = b"x" * 3_000_000
    assert await answered(forms, post("/forms/api/x", body, bearer(forms), media=b"text/plain")) == 200
    assert upstream_bytes(forms).endswith(body)
    key = forms.proxy.key.encode()
    data = post("/forms/soap/x", b"<s>" + key + b"</s>", bearer(forms), media=b"text/xml")
    assert await answered(forms, data) == 400
    assert key not in upstream_bytes(forms)
    await forms.fresh()
    async with forms.calling() as caller:
        at = data.rindex(key) + 20
        await caller.send(data[:at])
        await asyncio.wait_for(forms.upstream.arrival.wait(), 20)
        await caller.send(data[at:])
        assert (await caller.answer()).status == 400
    assert key not in upstream_bytes(forms)


async def test_a_form_with_a_key_only_in_the_body_is_bounded(forms: Lab) -> None:
    """What a stranger may make us hold has a limit."""
    body = b"a=" + b"x" * 70_000 + b"&token=" + forms.proxy.key.encode()
    assert await answered(forms, post("/forms/api/x", body)) == 413


SOAP = (
    b'<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Header><SessionHeader><sessionId>%b'
    b"</sessionId></SessionHeader></e:Header><e:Body><%b/></e:Body></e:Envelope>"
)


async def test_the_session_of_a_soap_request_becomes_the_token(forms: Lab) -> None:
    """Where the file says so the key is taken from the element, and the token stands in its place (sdks: Salesforce)."""
    key, token = forms.proxy.key.encode(), TOKEN.encode()
    for fields in ((), (bearer(forms),)):
        data = post(
            "/forms/services/Soap/u/59", SOAP % (key, b"query"), *fields, media=b"text/xml; charset=UTF-8"
        )
        assert await answered(forms, data) == 200
        assert key not in upstream_bytes(forms)
        assert upstream_bytes(forms).endswith(b"\r\n\r\n" + SOAP % (token, b"query"))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (SOAP % (b"other", b"query"), 401),
        (SOAP % (b"%K", b"logout"), 403),
        (SOAP % (b"<!-- %K -->", b"query"), 401),
        (SOAP.replace(b"Header", b"Other") % (b"%K", b"query"), 401),
        (b"<!DOCTYPE x>" + SOAP % (b"%K", b"query"), 401),
        (SOAP % (b"%K", b"a>%K</a><a"), 400),
        (b"<x" + b"y" * 70_000 + SOAP % (b"%K", b"query"), 413),
    ],
)
async def test_soap_that_is_not_taken_does_not_leave(forms: Lab, body: bytes, status: int) -> None:
    """Another session, a closed call, the key in data, a document type, too much: nothing goes on."""
    data = post("/forms/services/Soap/u/59", body.replace(b"%K", forms.proxy.key.encode()), media=b"text/xml")
    assert await answered(forms, data) == status
    assert upstream_bytes(forms) == b""


MULTIPART = b'multipart/form-data; boundary="b.1"'
FILE = b'--b.1\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%b\r\n'
END = b"--b.1--\r\n"


def field(key: bytes) -> bytes:
    return b'--b.1\r\nContent-Disposition: form-data; name="token"\r\n\r\n%b\r\n' % key


@pytest.mark.parametrize("size", [5, 3_000_000])
@pytest.mark.parametrize("in_head", [True, False])
async def test_a_key_in_a_form_with_files_counts_and_goes(forms: Lab, size: int, in_head: bool) -> None:  # noqa: FBT001  # a parameter
    """A field at the beginning of ``multipart/form-data`` is a key place like one of a plain form; files stream (R23)."""
    key, file = forms.proxy.key.encode(), FILE % (b"\r\n\xff" * (size // 3))
    fields = (bearer(forms),) if in_head else ()
    data = post("/forms/api/x", field(key) + file + END, *fields, media=MULTIPART)
    assert await answered(forms, data) == 200
    sent = upstream_bytes(forms)
    assert key not in sent
    assert sent.endswith(b"Content-Length: %d\r\n\r\n%b%b" % (len(file + END), file, END))
    assert TOKEN.encode() in sent


async def test_a_form_with_files_in_chunks(forms: Lab) -> None:
    """Without a length too: the field is taken out, what follows streams while the rest is still to come."""
    key = forms.proxy.key.encode()
    head = post("/forms/api/x", b"", media=MULTIPART).replace(
        b"Content-Length: 0", b"Transfer-Encoding: chunked"
    )
    first, rest = field(key) + (FILE % (b"x" * 100_000))[:90_000], (FILE % (b"x" * 100_000))[90_000:] + END
    await forms.fresh()
    async with forms.calling() as caller:
        await caller.send(head)
        for piece in (first[:50], first[50:130], first[130:]):
            await caller.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await asyncio.wait_for(forms.upstream.arrival.wait(), 5)
        await caller.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest))
        assert (await caller.answer()).status == 200
    (message,) = forms.upstream.seen()
    assert message.body == FILE % (b"x" * 100_000) + END
    assert message.framing == "chunked"
    assert key not in upstream_bytes(forms)


@pytest.mark.parametrize(
    ("in_head", "body", "status"),
    [
        (True, FILE % b"a %K b" + END, 400),
        (True, FILE % (b"x" * 200_000) + field(b"%K") + END, 400),
        (True, FILE % (b"x" * (65_536 - len(FILE) - 20) + b"%K" + b"x" * 100_000) + END, 400),
        (True, field(b"%K").replace(b"name=", b"name*=") + END, 400),
        (False, FILE % (b"x" * 200_000) + field(b"%K") + END, 401),
        (False, field(b"other") + END, 401),
        (False, FILE % b"%K" + END, 401),
        (False, field(b"%K") + field(b"other") + END, 400),
        (False, field(b"%K") + FILE % b"%K" + END, 400),
        (False, field(b"%K") + FILE % (b"x" * 200_000 + b"%K") + END, 400),
    ],
)
async def test_a_key_elsewhere_in_a_form_with_files_does_not_leave(
    forms: Lab,
    in_head: bool,  # noqa: FBT001  # a parameter
    body: bytes,
    status: int,
) -> None:
    """In a file, behind the beginning, across its end, in a field with two readings, or beside another key: never sent on."""
    key = forms.proxy.key.encode()
    fields = (bearer(forms),) if in_head else ()
    data = post("/forms/api/x", body.replace(b"%K", key), *fields, media=MULTIPART)
    assert await answered(forms, data) == status
    assert key not in upstream_bytes(forms)


async def test_a_slow_form_with_files_is_not_held_for_long(forms: Lab) -> None:
    """What has come within the time for a beginning goes on; a caller that is known may take longer for the rest."""
    key = forms.proxy.key.encode()
    file = FILE % (b"x" * 1000)
    data = post("/forms/api/x", field(key) + file + END, bearer(forms), media=MULTIPART)
    await forms.fresh()
    async with forms.calling() as caller:
        await caller.send(data[:-700])
        await asyncio.wait_for(forms.upstream.arrival.wait(), 30)
        await caller.send(data[-700:])
        assert (await caller.answer()).status == 200
    assert upstream_bytes(forms).endswith(file + END)
    assert key not in upstream_bytes(forms)
