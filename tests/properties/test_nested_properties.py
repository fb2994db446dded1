"""Batches against slow second readers: the standard library's ``email`` and ``json`` see what was judged and no more."""

import email
import email.policy
import itertools
import json
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import steps
from support.depth import examples
from support.nested import BASE, CATALOG, GOOGLE, GRAPH, HOST, JSON, MIXED, judged, requests

from proxy.catalog.model import Service
from proxy.errors import CallerError
from proxy.forwarding.links.addresses import AddressMap, Arrival
from proxy.forwarding.nested import multipart
from proxy.forwarding.nested.answers import Answers
from proxy.forwarding.nested.refused import Refused

KEY = steps.KEY
# Pieces of which addresses that are meant to confuse are made.
_SPELT = st.lists(
    st.sampled_from(
        [
            *(
                "/",
                "//",
                "..",
                ".",
                "%2e",
                "%2F",
                "%252e",
                "\\",
                "~",
                "@",
                ":",
                "?",
                "#",
                "&",
                "=",
                ";",
                " ",
                "é",
            ),
            *("$batch", "%24batch", "$1", "batch", "calendar", "v3", "v1.0", "beta", "me", "users", "drive"),
            *(
                "googlecalendar",
                "outlook",
                "slack",
                "@main",
                "@other",
                "~discovery",
                "~api",
                "http:",
                "https:",
            ),
            *(
                "proxy.example:8080",
                "www.googleapis.com",
                "graph.microsoft.com",
                "evil.example",
                KEY.decode(),
            ),
            *("changePassword", "token", "oauth2", "\r", "\n", "\t", "key=", "%63pk_"),
        ]
    ),
    max_size=9,
).map("".join)
_URLS = st.one_of(
    _SPELT,
    _SPELT.map(lambda text: "/" + text),
    _SPELT.map(lambda text: BASE + "/outlook/" + text),
    _SPELT.map(lambda text: BASE + "/googlecalendar/" + text),
    _SPELT.map(lambda text: "https://graph.microsoft.com/" + text),
    _SPELT.map(lambda text: "https://www.googleapis.com/" + text),
)
_NAMES = st.sampled_from(
    ["Authorization", "X-Api-Key", "Host", "X-A", "x-forwarded-for", "Content-Type", "Via"]
)
_TEXTS = st.sampled_from(
    ["a", f"Bearer {KEY.decode()}", KEY.decode(), "application/json", HOST.decode(), "é", ""]
)
_FIELDS = st.lists(st.tuples(_NAMES, _TEXTS), max_size=4)


def is_below(path: str, *roots: str) -> bool:
    """True when a server that decodes and resolves the path stays below one of the roots."""
    for _ in range(3):
        plain = path.partition("?")[0].replace("\\", "/")
        if not plain.startswith(roots) or {"..", "."} & set(plain.split("/")):
            return False
        path = unquote(path)
    return True


@settings(max_examples=examples(120))
@given(
    st.lists(st.tuples(_URLS, _FIELDS, st.sampled_from([None, b"{}", b"a\r\n", KEY])), min_size=1, max_size=3)
)
def test_no_multipart_batch_leads_elsewhere_or_keeps_a_key(
    parts: list[tuple[str, list[tuple[str, str]], bytes | None]],
) -> None:
    """Whatever stands in a batch: refused, or another reader finds requests to the calendar without the key in them."""
    body = requests(
        *(
            b"%b %b HTTP/1.1\n%b\n%b"
            % (
                b"GET" if content is None else b"POST",
                url.encode(),
                b"".join(f"{name}: {value}\n".encode() for name, value in fields),
                content or b"",
            )
            for url, fields, content in parts
        )
    )
    try:
        sent = judged(GOOGLE, MIXED, body)
    except CallerError:
        return
    assert KEY not in sent
    message = email.message_from_bytes(
        b"Content-Type: " + MIXED + b"\r\n\r\n" + sent, policy=email.policy.HTTP
    )
    assert message.defects == []
    entries = message.get_payload()
    assert isinstance(entries, list)
    assert len(entries) == len(parts)
    for entry in entries:
        assert not isinstance(entry, str)
        assert entry.get_content_type() == "application/http"
        text = entry.get_payload(decode=True)
        assert isinstance(text, bytes)
        first, _, rest = text.partition(b"\r\n")
        method, target, version = first.decode().split(" ")
        assert (method in {"GET", "POST"}, version) == (True, "HTTP/1.1")
        assert is_below(target, "/calendar/v3/", "/calendar/v3")
        head = email.message_from_bytes(rest, policy=email.policy.HTTP)
        assert head.get_all("host") == ["www.googleapis.com"]
        assert not {"authorization", "x-api-key", "via", "x-forwarded-for"} & {name.lower() for name in head}


@settings(max_examples=examples(120))
@given(
    st.lists(
        st.tuples(_URLS, st.dictionaries(_NAMES, _TEXTS, max_size=3), st.sampled_from([None, {"a": 1}])),
        min_size=1,
        max_size=3,
    )
)
@example([("$1/x", {}, None)])
def test_no_json_batch_leads_elsewhere_or_keeps_a_key(
    parts: list[tuple[str, dict[str, str], object]],
) -> None:
    """Whatever stands in a batch: refused, or each address is a path below the version, and the key is nowhere."""
    entries = [
        {"id": str(number), "method": "GET", "url": url, "headers": headers, "body": body}
        for number, (url, headers, body) in enumerate(parts)
    ]
    try:
        sent = judged(GRAPH, JSON, json.dumps({"requests": entries}, ensure_ascii=False).encode())
    except CallerError:
        return
    assert KEY not in sent
    for was, now in zip(entries, json.loads(sent)["requests"], strict=True):
        url = now["url"] if now["url"].startswith("/") else "/" + now["url"]
        assert ":" not in now["url"].partition("/")[0].partition("?")[0]
        assert url[1:2] not in {"/", "\\", "$"}
        assert is_below("/v1.0" + url, "/v1.0/", "/v1.0")
        assert not {"authorization", "x-api-key", "host", "via"} & {name.lower() for name in now["headers"]}
        assert {**now, "url": 0, "headers": 0} == {**was, "url": 0, "headers": 0}


@settings(max_examples=examples(120))
@given(st.data())
def test_a_damaged_batch_is_refused_or_read_as_another_reader_does(data: st.DataObject) -> None:
    """A few bytes changed anywhere: refused, or ``email`` still finds the very requests that were judged."""
    body = bytearray(
        requests(b"GET /calendar/v3/a HTTP/1.1\nX-A: 1\n\n", b"PUT /calendar/v3/b HTTP/1.1\n\n{}")
    )
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        with_what = data.draw(
            st.sampled_from([b"", b"\r", b"\n", b"\r\n", b"-", b" ", b":", b"\0", b"=", b"/"])
        )
        body[at : at + data.draw(st.integers(0, 2))] = with_what
    try:
        sent = judged(GOOGLE, MIXED, bytes(body))
    except CallerError:
        return
    message = email.message_from_bytes(
        b"Content-Type: " + MIXED + b"\r\n\r\n" + sent, policy=email.policy.HTTP
    )
    assert message.defects == []
    read = multipart.read(MIXED, sent, most=2)
    seen = [entry.get_payload(decode=True).split(b" ")[:2] for entry in message.get_payload()]
    assert seen == [[inner.method, inner.url] for inner in read.inners]
    assert judged(GOOGLE, MIXED, sent) == sent


_JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=20,
)


@given(_JSON, st.booleans(), st.sampled_from([None, 1]))
def test_a_json_batch_without_addresses_is_byte_identical(
    body: object,
    ascii_only: bool,  # noqa: FBT001  # drawn
    indent: int | None,
) -> None:
    """A batch that Graph could have been sent directly goes on byte for byte, whatever stands in its bodies."""
    document = {
        "requests": [{"id": "1", "method": "POST", "url": "/me", "headers": {"a": "b"}, "body": body}]
    }
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    try:
        assert judged(GRAPH, JSON, text) == text
    except CallerError:
        with pytest.raises(UnicodeDecodeError):
            text.decode()


def _answers(*parts: bytes, end: bytes) -> bytes:
    lead = b"--batch_1"
    about = b"Content-Type: application/http" + end + b"Content-ID: <response-1>" + end * 2
    return b"".join([*(lead + end + about + one + end for one in parts), lead + b"--" + end])


@given(
    st.lists(st.tuples(st.booleans(), st.binary(max_size=40)), min_size=1, max_size=4),
    st.lists(st.integers(0, 700), max_size=8),
    st.sampled_from([b"\r\n", b"\n"]),
)
def test_answers_are_mapped_whatever_the_pieces(
    parts: list[tuple[bool, bytes]], cuts: list[int], end: bytes
) -> None:
    """Addresses in the heads of answers are mapped, bodies keep every byte, however the answer is cut."""
    service: Service = CATALOG.services["googlecalendar"]
    addresses = AddressMap(service, {}, Arrival(b"http://p", b"/googlecalendar"))

    def written(origin: bytes) -> bytes:
        return _answers(
            *(
                b"HTTP/1.1 200 OK%b%b%b%b"
                % (
                    end,
                    b"Location: %b/calendar/v3/x%b" % (origin, end) if moved else b"A: b" + end,
                    end,
                    body,
                )
                for moved, body in parts
            ),
            end=end,
        )

    whole = written(b"https://www.googleapis.com")
    reader = Answers(b"batch_1", addresses, b"https://www.googleapis.com", Refused())
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    made = b"".join(reader.feed(whole[one:other]) for one, other in itertools.pairwise(places))
    assert made + reader.flush() == written(b"http://p/googlecalendar")
