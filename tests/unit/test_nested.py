"""Batches: what their parts may be, what becomes of them, and what is refused."""

import json

import pytest
from support import steps
from support.nested import (
    BASE,
    BOUNDARY,
    GOOGLE,
    GRAPH,
    HOST,
    JSON,
    MIXED,
    judged,
    mixed,
    objects,
    part,
    requests,
)
from support.websockets import NONCE

from proxy.errors import (
    AmbiguousKey,
    AmbiguousTarget,
    BadRequest,
    CallerError,
    CredentialPath,
    NotPermitted,
)

KEY = steps.KEY
OTHER = steps.OTHER_KEY
GET = b"GET /calendar/v3/calendars/primary HTTP/1.1\nHost: www.googleapis.com\n\n"
HANDSHAKE = (
    b"Upgrade: websocket\nConnection: upgrade\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: %b\n" % NONCE
)


def google(*parts: bytes, **more) -> bytes:
    return judged(GOOGLE, MIXED, requests(*parts), **more)


def graph(*urls: str, **more) -> list[str]:
    document = json.loads(judged(GRAPH, JSON, objects(*urls), **more))
    return [entry["url"] for entry in document["requests"]]


# --- Google: multipart/mixed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/googlecalendar/calendar/v3/users/me",
        "/googlecalendar@main/calendar/v3/users/me",
        "/googlecalendar/users/me",
        "/calendar/v3/users/me",
        "/users/me",
        BASE + "/googlecalendar/calendar/v3/users/me",
        BASE.upper().replace("HTTP://", "http://") + "/googlecalendar/users/me",
        "https://www.googleapis.com/calendar/v3/users/me",
    ],
)
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_every_spelling_of_an_address_leads_to_one_path(target: str, end: bytes) -> None:
    """A part's address may be spelt as the proxy's, the service's, or absolute; one upstream path is sent (R24)."""
    body = requests(b"GET %b?a=%%41&b HTTP/1.1\nX-A: 1\n\n" % target.encode(), end=end)
    sent = judged(GOOGLE, MIXED, body)
    assert sent == requests(
        b"GET /calendar/v3/users/me?a=%41&b HTTP/1.1\nHost: www.googleapis.com\nX-A: 1\n\n", end=end
    )


def test_gmail_paths_begin_with_its_own_id() -> None:
    """``/gmail/v1`` inside of a batch is Gmail's own path, with the proxy's prefix or without."""
    for path in (b"/gmail/v1/users/me/labels", b"/gmail/gmail/v1/users/me/labels"):
        sent = judged(b"/gmail/batch", MIXED, requests(b"GET %b HTTP/1.1\n\n" % path))
        assert b"GET /gmail/v1/users/me/labels HTTP/1.1" in sent


def test_a_batch_with_nothing_to_change_keeps_every_byte() -> None:
    """What is as the service wants it goes on byte for byte, folded fields and spare line ends included."""
    about = b"Content-ID: <a +\r\n b>"
    put = b'PUT /calendar/v3/x HTTP/1.1\nhost: www.googleapis.com\ncontent-length: 13\n\n{"n": 1.00e2}'
    body = mixed(part(GET, about), part(put) + b"\r\n")
    assert judged(GOOGLE, MIXED, body) == body


def test_keys_and_fields_about_the_way_stay_behind() -> None:
    """A part loses the key in every place, and what no request takes along; its length is set anew (R31, R75)."""
    fields = b"Host: %b\nAuthorization: Bearer %b\nX-Goog-Api-Key: %b\nX-Forwarded-For: 1.2.3.4\nCookie: a=b\nExpect: 100-continue"
    one = b"POST /googlecalendar/calendar/v3/x?key=%b&q=%b HTTP/1.1\n%b\nIf-Match: x\n\n{}" % (
        KEY,
        KEY,
        fields % (HOST, KEY, KEY),
    )
    assert google(one) == requests(
        b"POST /calendar/v3/x HTTP/1.1\nHost: www.googleapis.com\nIf-Match: x\nContent-Length: 2\n\n{}"
    )


@pytest.mark.parametrize(
    "field",
    [
        b"Authorization: Bearer ya29.other",
        b"Authorization: Bearer %K",
        b"x-goog-api-key: AIzaSomething",
    ],
)
def test_another_credential_in_a_part_is_refused(field: bytes) -> None:
    """A part with a credential that is not the batch's own is refused rather than stripped of it (R91)."""
    with pytest.raises(AmbiguousKey, match="part 2 of the batch"):
        google(GET, b"GET /calendar/v3/x HTTP/1.1\n%b\n\n" % field.replace(b"%K", OTHER))


def test_a_key_that_cannot_be_taken_out_stops_the_batch() -> None:
    """A key in a path, a body or a part's own fields does not go on."""
    for body in (
        requests(b"GET /calendar/v3/%b HTTP/1.1\n\n" % KEY),
        requests(b"POST /calendar/v3/x HTTP/1.1\n\n%b" % KEY),
    ):
        with pytest.raises(BadRequest, match="key"):
            judged(GOOGLE, MIXED, body)


@pytest.mark.parametrize(
    ("one", "error"),
    [
        (b"GET /slack/api.test HTTP/1.1\n\n", BadRequest),
        (b"GET /googledrive/drive/v3/files HTTP/1.1\n\n", BadRequest),
        (b"GET https://evil.example/calendar/v3/x HTTP/1.1\n\n", BadRequest),
        (b"GET https://www.googleapis.com.evil.example/calendar/v3/x HTTP/1.1\n\n", BadRequest),
        (b"GET https://www.googleapis.com:444/calendar/v3/x HTTP/1.1\n\n", BadRequest),
        (b"GET https://www.googleapis.com@evil.example/calendar/v3/x HTTP/1.1\n\n", BadRequest),
        (b"GET https://www.googleapis.com/drive/v3/files HTTP/1.1\n\n", BadRequest),
        (b"GET //evil.example/calendar/v3/x HTTP/1.1\n\n", BadRequest),
        (b"GET /calendar/v3/../../drive/v3/files HTTP/1.1\n\n", AmbiguousTarget),
        (b"GET /calendar/v3/%2e%2e/x HTTP/1.1\n\n", AmbiguousTarget),
        (b"GET /calendar/v3/x#y HTTP/1.1\n\n", BadRequest),
        (b"GET /calendar/v3/x\\y HTTP/1.1\n\n", BadRequest),
        (b"GET /googlecalendar@other/calendar/v3/x HTTP/1.1\n\n", BadRequest),
        (b"GET /googlecalendar/~discovery/discovery/v1/apis HTTP/1.1\n\n", BadRequest),
        (b"GET /discovery/v1/apis HTTP/1.1\n\n", BadRequest),
        (b"GET /googlecalendar/~~1.a.b/x/y HTTP/1.1\n\n", BadRequest),
        (b"POST /batch/calendar/v3 HTTP/1.1\n\n", CredentialPath),
        (b"POST /googlecalendar/batch/calendar/v3/ HTTP/1.1\n\n", CredentialPath),
        (b"GET /calendar/v3/x HTTP/1.1\nHost: evil.example\n\n", BadRequest),
        (b"GET /calendar/v3/x HTTP/1.1\nHost: www.googleapis.com\nHost: www.googleapis.com\n\n", BadRequest),
        (b"GET /calendar/v3/x HTTP/1.1\nX-HTTP-Method-Override: DELETE\n\n", NotPermitted),
        (b"GET /calendar/v3/x?$httpMethod=DELETE HTTP/1.1\n\n", NotPermitted),
        (b"CONNECT /calendar/v3/x HTTP/1.1\n\n", BadRequest),
        (b"GET /calendar/v3/x HTTP/1.1\nTransfer-Encoding: chunked\n\n0\n\n", BadRequest),
        (b"GET /calendar/v3/x HTTP/1.1\nUpgrade: websocket\nConnection: upgrade\n\n", BadRequest),
        (b"GET /calendar/v3/x HTTP/1.1\n%b\n" % HANDSHAKE, BadRequest),
        (b"GET /calendar/v3/x HTTP/1.1\nX_A: 1\n\n", BadRequest),
    ],
)
def test_parts_that_may_not_go_refuse_the_batch(one: bytes, error: type[CallerError]) -> None:
    """A part that leads elsewhere, hides something or nests further refuses the whole batch, and is named."""
    with pytest.raises(error, match="part 2 of the batch"):
        google(GET, one)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"--" + BOUNDARY + b"--\r\n", id="no part"),
        pytest.param(b"preamble\r\n" + requests(GET), id="a preamble"),
        pytest.param(requests(GET) + b"epilogue", id="an epilogue"),
        pytest.param(requests(GET)[: -len(b"--\r\n")], id="no end"),
        pytest.param(requests(GET).replace(b"\r\n--", b"\r\n --", 1), id="an indented delimiter"),
        pytest.param(requests(GET).replace(b"==\r\n", b"== \r\n", 1), id="blanks behind a delimiter"),
        pytest.param(requests(GET).replace(b"==\r\n", b"==x\r\n", 1), id="a longer delimiter"),
        pytest.param(requests(GET).replace(b"Host: ", b"Host: a\nb: ", 1), id="another line end"),
        pytest.param(requests(GET).replace(b"Host: ", b"Host: a\rb: ", 1), id="a bare CR"),
        pytest.param(requests(GET).replace(b"\r\nHost", b"\r\n Host", 1), id="a folded field"),
        pytest.param(requests(GET).replace(b"Host:", b"Host :", 1), id="a blank before the colon"),
        pytest.param(requests(GET).replace(b"GET /", b"GET  /", 1), id="two blanks"),
        pytest.param(requests(GET).replace(b"HTTP/1.1", b"HTTP/2", 1), id="another version"),
        pytest.param(requests(GET).replace(b"GET /", b"\r\nGET /", 1), id="a blank line before the request"),
        pytest.param(requests(GET).replace(b"application/http", b"text/plain", 1), id="another type of part"),
        pytest.param(mixed(part(GET, b"Content-Type: application/http")), id="two types"),
        pytest.param(mixed(part(GET, b"Content-Transfer-Encoding: base64")), id="a coded part"),
        pytest.param(mixed(part(GET, b"Authorization: Bearer x")), id="an unknown field of a part"),
        pytest.param(mixed(part(GET, b"Content-Length: 3")), id="a wrong length of a part"),
        pytest.param(mixed(GET.replace(b"\n", b"\r\n")), id="no fields of a part"),
        pytest.param(requests(b"PUT /x HTTP/1.1\nContent-Length: 1\n\nab"), id="a body too long"),
        pytest.param(requests(b"PUT /x HTTP/1.1\nContent-Length: 3\n\nab"), id="a body too short"),
        pytest.param(
            requests(b"PUT /x HTTP/1.1\nContent-Length: 2\nContent-Length: 2\n\nab"), id="two lengths"
        ),
        pytest.param(requests(b"PUT /x HTTP/1.1\nContent-Length: +2\n\nab"), id="no length"),
        pytest.param(requests(b"PUT /x HTTP/1.1\n\na\r\n--%b b" % BOUNDARY), id="a delimiter in a body"),
        pytest.param(requests(GET, end=b"\n").replace(b"\n--", b"\r\n--"), id="line ends of two kinds"),
        pytest.param(requests(*[GET] * 1001), id="too many"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(body: bytes) -> None:
    """The grammar of a multipart batch has one reading; everything beside it is a 400."""
    with pytest.raises(BadRequest):
        judged(GOOGLE, MIXED, body)


@pytest.mark.parametrize(
    "media",
    [
        b"",
        b"multipart/mixed",
        b"multipart/form-data; boundary=x",
        b"multipart/mixed; boundary=x; boundary=y",
        b"multipart/mixed; charset=utf-8; boundary=x",
        b'multipart/mixed; boundary="x',
        b'multipart/mixed; boundary="x "',
        b"multipart/mixed; boundary=",
        b"multipart/mixed; boundary*=utf-8''x",
    ],
)
def test_the_boundary_has_one_reading_too(media: bytes) -> None:
    """A Content-Type that names no boundary, or says more, is a 400."""
    with pytest.raises(BadRequest):
        judged(GOOGLE, media, requests(GET))


def test_a_boundary_needs_no_quotes() -> None:
    """Both forms of the parameter are taken, in any case of its name (RFC 2045 §5.1)."""
    body = mixed(part(GET), boundary=b"batch_a.1")
    assert judged(GOOGLE, b"Multipart/Mixed;Boundary=batch_a.1", body) == body


def test_limits_are_those_of_the_service() -> None:
    """Each service's own number of parts counts (Drive 100, Classroom 50)."""
    one = b"GET /v1/courses HTTP/1.1\n\n"
    assert judged(b"/google_classroom/batch", MIXED, requests(*[one] * 50))
    with pytest.raises(BadRequest, match="50"):
        judged(b"/google_classroom/batch", MIXED, requests(*[one] * 51))


# --- permits -----------------------------------------------------------------------------------------


def test_parts_need_their_own_permits() -> None:
    """Method and path of each part count as if it had come alone; the batch itself needs no permit (R85)."""
    write = b"POST /googlecalendar/calendar/v3/calendars/primary/events HTTP/1.1\n\n{}"
    assert google(GET, permits=["googlecalendar:GET"])
    with pytest.raises(NotPermitted, match="part 2 of the batch: the key has no permit"):
        google(GET, write, permits=["googlecalendar:GET"])
    with pytest.raises(NotPermitted):
        google(GET, permits=["googlecalendar:*:/calendar/v3/users/**"])
    with pytest.raises(NotPermitted):
        google(GET, permits=["googlecalendar@other"])
    with pytest.raises(NotPermitted):
        google(GET, permits=["googledrive"])


def test_the_effective_method_of_a_part_counts() -> None:
    """A GET that a client wrote as a POST, because it is long, is a GET for permits, and goes on as it is."""
    one = b"POST /calendar/v3/x HTTP/1.1\nX-HTTP-Method-Override: %b\n\nq=1"
    assert b"X-HTTP-Method-Override: GET" in google(one % b"GET", permits=["googlecalendar:GET"])
    with pytest.raises(NotPermitted):
        google(one % b"DELETE", permits=["googlecalendar:GET,POST"])


@pytest.mark.parametrize(
    ("target", "field"),
    [
        (GOOGLE, (b"X-HTTP-Method-Override", b"DELETE")),
        (GOOGLE, (b"X-HTTP-Method-Override", b"POST")),
        (GOOGLE + b"?$httpMethod=DELETE", (b"X-A", b"b")),
        (GRAPH, (b"X-HTTP-Method", b"DELETE")),
    ],
)
def test_the_batch_itself_overrides_nothing(target: bytes, field: tuple[bytes, bytes]) -> None:
    """Services apply the batch's own fields to each part, so a method override there is refused."""
    media, body = (MIXED, requests(GET)) if target.startswith(GOOGLE) else (JSON, objects("/me"))
    with pytest.raises(NotPermitted):
        judged(target, media, body, fields=[field])


def test_a_coded_batch_is_refused() -> None:
    """What would have to be decoded first is not judged, so it does not go."""
    with pytest.raises(BadRequest):
        judged(GOOGLE, MIXED, requests(GET), fields=[(b"Content-Encoding", b"gzip")])


# --- Graph: JSON -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("/me?$select=id", "/me?$select=id"),
        ("users?$top=2", "users?$top=2"),
        (BASE + "/outlook/v1.0/me", "/me"),
        (BASE + "/outlook/me", "/me"),
        ("outlook/v1.0/me", "/me"),
        ("https://graph.microsoft.com/v1.0/me", "/me"),
        ("/v1.0/me", "/me"),
        ("/users?$filter=city eq 'Zürich'", "/users?$filter=city%20eq%20'Z%C3%BCrich'"),
        ("/me/drive/root:/a%20b.txt:/content", "/me/drive/root:/a%20b.txt:/content"),
    ],
)
def test_addresses_are_relative_to_the_batch(url: str, sent: str) -> None:
    """Graph gets what it documents: a path relative to the version; addresses that are so already stay as they are."""
    assert graph(url) == [sent]


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("/beta/me", BadRequest),
        ("https://graph.microsoft.com/beta/me", BadRequest),
        ("https://graph.microsoft.com/me", BadRequest),
        ("https://evil.example/v1.0/me", BadRequest),
        ("https:/evil.example", BadRequest),
        ("//evil.example/me", BadRequest),
        ("/\\evil.example/me", BadRequest),
        ("/slack/me", BadRequest),
        (BASE + "/slack/api.test", BadRequest),
        (BASE + "/outlook@other/v1.0/me", BadRequest),
        ("/me/../users", AmbiguousTarget),
        ("/me#x", BadRequest),
        ("/me\n", BadRequest),
        ("$1/members", BadRequest),
        ("/%241/members", BadRequest),
        (BASE + "/outlook/$1", BadRequest),
        (BASE + "/outlook/v1.0/%241", BadRequest),
        ("https://graph.microsoft.com/v1.0/$1/members", BadRequest),
        ("/me/$batch", CredentialPath),
        ("/v1.0/%24batch", BadRequest),
        ("/me/changePassword", CredentialPath),
        ("\ud800", BadRequest),
    ],
)
def test_addresses_that_lead_elsewhere_refuse_the_batch(url: str, error: type[CallerError]) -> None:
    """Other hosts, versions, services and connections, references and nested batches are refused, with the number."""
    with pytest.raises(error, match="part 2 of the batch"):
        graph("/me", url)


def test_only_what_has_to_change_changes() -> None:
    """Numbers, blanks, escapes and the order of members keep their bytes; so do all other parts."""
    text = (
        '\n{ "requests": [ {"body": {"n": 1.000e2, "big": 123456789012345678901234567890, "s": "\\u00fc\\/"},'
        ' "method":"PATCH" , "id" : "a", "headers":{ "content-type" : "application/json"%s}, "url":"%s"},'
        '{"id":"b","url":"\\/me","method":"GET","dependsOn":["a"],"headers":null} ] }\r\n'
    )
    more = f', "Authorization": "Bearer {KEY.decode()}", "Host":"x" '
    sent = judged(GRAPH, JSON, (text % (more, BASE + "/outlook/v1.0/me")).encode())
    assert sent.decode() == text % ("", "/me")
    assert judged(GRAPH, JSON, sent) == sent


def test_addresses_in_bodies_are_the_services_own() -> None:
    """An address of the proxy that a caller sends back as a value becomes what it stands for, nothing else does."""
    link = BASE + "/outlook@main/v1.0/users/1?$x=a%20b"
    body = {
        "@odata.id": link,
        "text": "see " + link,
        "other": BASE + "/slack/x",
        "else": "http://evil/outlook/v1.0/x",
        BASE + "/outlook/me": 1,
    }
    sent = json.loads(judged(GRAPH, JSON, objects("/me", method="POST", body=body)))
    own = "https://graph.microsoft.com/v1.0/users/1?$x=a%20b"
    assert sent["requests"][0]["body"] == {**body, "@odata.id": own}


def entry(**changes: object) -> bytes:
    return json.dumps({"requests": [{"id": "1", "method": "GET", "url": "/me", **changes}]}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"requests":{}}',
        b'{"requests":[]}',
        b'{"requests":[1]}',
        b'{"requests":[{}]}',
        b'{"requests":[],"requests":[]}',
        b'{"Requests":[{"id":"1","method":"GET","url":"/me"}]}',
        b'{"requests":[{"id":"1","method":"GET","url":"/me"}],"more":1}',
        b'{"requests":[{"id":"1","method":"GET","url":"/me"}]} {}',
        b'{"requests":[{"id":"1","method":"GET","url":"/me"},]}',
        b'{"requests":[{"id":"1","method":"GET","url":"/me","url":"/x"}]}',
        b'{"requests":[{"id":"1","method":"GET","url":"/me","URL":"/x"}]}',
        b'{"requests":[{"id":"1","method":"GET","url":"/me","\\u0075rl":"/x"}]}',
        b'{"requests":[{"id":"1","method":"GET","url":"/me","body":NaN}]}',
        b'{"requests":[{"id":"1","method":"GET","url":"/me","body":{"a":01}}]}',
        b'\xef\xbb\xbf{"requests":[{"id":"1","method":"GET","url":"/me"}]}',
        b'{"requests":[{"id":"1","method":"GET","url":"/me\xff"}]}',
        b'{"requests":[{"id":"1","method":"GET","url":"/me","body":'
        + b"[" * 100_000
        + b"]" * 100_000
        + b"}]}",
        entry(id=1),
        entry(id=""),
        entry(method="get"),
        entry(method="GET /x"),
        entry(url=None),
        entry(url=["/me"]),
        entry(atomicityGroup="g"),
        entry(headers=[]),
        entry(headers={"a": 1}),
        entry(headers={"a b": "c"}),
        entry(headers={"a": "b\r\nc: d"}),
        entry(headers={"A": "1", "a": "2"}),
        entry(headers={"Transfer-Encoding": "chunked"}),
        entry(dependsOn="1"),
        entry(dependsOn=[1]),
        objects(*["/me"] * 21),
        objects("/a", "/b").replace(b'"2"', b'"1"'),
    ],
)
def test_json_that_is_no_batch_is_refused(body: bytes) -> None:
    """One object, known names once each, texts where texts belong: everything else is a 400."""
    with pytest.raises(BadRequest):
        judged(GRAPH, JSON, body)


def test_json_is_what_the_content_type_says() -> None:
    """A body that is said to be something else might be read as something else."""
    assert judged(GRAPH, b"application/json; charset=utf-8", objects("/me"))
    with pytest.raises(BadRequest):
        judged(GRAPH, b"text/plain", objects("/me"))


def test_parts_of_json_batches_are_judged_too() -> None:
    """Permits, overrides and credentials of parts count as in any other request."""
    assert graph("/me", permits=["outlook:GET:/v1.0/me"])
    with pytest.raises(NotPermitted, match="part 2"):
        graph("/me", "/users", permits=["outlook:GET:/v1.0/me"])
    with pytest.raises(NotPermitted):
        judged(GRAPH, JSON, objects("/me", method="DELETE"), permits=["outlook:GET"])
    with pytest.raises(NotPermitted):
        judged(GRAPH, JSON, objects("/me", method="POST", headers={"X-HTTP-Method": "DELETE"}))
    with pytest.raises(AmbiguousKey):
        judged(GRAPH, JSON, objects("/me", headers={"Authorization": "Bearer eyJ0"}))
    with pytest.raises(BadRequest, match="key"):
        judged(GRAPH, JSON, objects("/me", method="POST", body={"a": KEY.decode()}))


def test_read_only_keys_batch_what_is_reviewed() -> None:
    """The read-only preset is asked for each part, with the batch's own query, which counts for each (R85)."""
    write = b"POST /calendar/v3/calendars/primary/events HTTP/1.1\n\n{}"
    assert google(GET, permits=["googlecalendar:read-only"])
    with pytest.raises(NotPermitted, match="part 2 of the batch: the key is read-only"):
        google(GET, write, permits=["googlecalendar:read-only"])
    assert b"POST /calendar/v3" in google(GET, write, permits=["googlecalendar:observe,read-only"])


def test_what_msgraph_core_writes() -> None:
    """The bytes that msgraph-core 1.5.2 sent in a run: absolute addresses, and ``depends_on`` for ``dependsOn``."""
    written = (
        '{"requests": [{"id": "1", "method": "GET", "url": "http://proxy.example:8080/outlook/v1.0/me", '
        '"depends_on": [], "headers": {}}, {"id": "2", "method": "POST", '
        '"url": "http://proxy.example:8080/outlook/v1.0/me/messages", "depends_on": ["1"], '
        '"headers": {"content-type": "application/json"}, "body": {"subject": "x"}}]}'
    )
    sent = judged(GRAPH, JSON, written.encode())
    assert sent.decode() == written.replace(BASE + "/outlook/v1.0", "")
