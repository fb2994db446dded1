"""The parts of link rewriting that need no body: what becomes of URLs, header fields, and capability addresses."""

import ipaddress
from dataclasses import replace

import pytest
from support.steps import BY_ID, KEY_ID, OTHER_KEY, head, record, ring

from proxy.catalog.loader import load_catalog
from proxy.errors import MethodNotAllowed, NotPermitted
from proxy.forwarding.arrival import arrival_of
from proxy.forwarding.framing import AnswerHead
from proxy.forwarding.links.addresses import AddressMap, Arrival
from proxy.forwarding.links.capability import LONGEST_S, Capabilities, bare
from proxy.forwarding.links.fields import mapped_lines, of_other_bytes
from proxy.forwarding.links.members import Names
from proxy.forwarding.links.rewriting import Links
from proxy.forwarding.rewrite import request_head
from proxy.forwarding.routing import match, parse_target, rooted_target

SERVICES = load_catalog().services
GITHUB, SLACK, CALENDAR = SERVICES["github"], SERVICES["slack"], SERVICES["googlecalendar"]
BASE = b"http://127.0.0.1:8080"
HERE = b"https://api.github.com"
MAP = AddressMap(GITHUB, {}, Arrival(BASE, b"/github", b"", frozenset(SERVICES)))
NOW = 1_000_000.0
CAPABILITIES = Capabilities(b"secret of the instance")


@pytest.mark.parametrize(
    ("url", "becomes"),
    [
        ("https://api.github.com", "/github"),
        ("https://api.github.com/", "/github/"),
        ("https://api.github.com?x=1", "/github?x=1"),
        ("https://api.github.com/user#top", "/github/user#top"),
        ("https://api.github.com/repos/o/r/commits{/sha}", "/github/repos/o/r/commits{/sha}"),
        ("https://api.github.com{/path}", "/github{/path}"),
        (
            "https://uploads.github.com/repos/o/r/releases/1/assets{?name,label}",
            "/github/~uploads/repos/o/r/releases/1/assets{?name,label}",
        ),
        ("https://api.github.com/~x/y", "/github/~api/~x/y"),
        # a POST there would be taken for an upload, an Enterprise prefix would be taken away
        ("https://api.github.com/repos/o/r/releases/1/assets", "/github/~api/repos/o/r/releases/1/assets"),
        ("https://api.github.com/api/v3/x", "/github/~api/api/v3/x"),
    ],
)
def test_addresses_of_the_service(url: str, becomes: str) -> None:
    """URLs on the service's hosts become the proxy's; templates stay whole; ``~host`` where a plain path might stray."""
    assert MAP.replaced(url.encode()) == BASE + becomes.encode()


@pytest.mark.parametrize(
    "url",
    [
        "http://api.github.com/x",
        "https://api.github.com:443/x",
        "https://api.github.com:8443/x",
        "https://me@api.github.com/x",
        "https://api.github.com@evil.example/x",
        "https://api.github.com.evil.example/x",
        "https://evil.example/https://api.github.com/x",
        "https://api.github.com\\@evil.example/x",
        "https://api.github.com/x\\y",
        "https://API.github.com/x",
        "https://api.github.com./x",
        "https://github.com/o/r",
        "https://api.github.com//x",
        "https://api.github.com/a/../x",
        "https://api.github.com/a/%2e%2e/x",
        "https://api.github.com/a b",
        "https://api.github.com/\u00e9",
        " https://api.github.com/x",
        "https:/api.github.com/x",
        "wss://api.github.com/x",
        "",
    ],
)
def test_everything_else_stays(url: str) -> None:
    """Other hosts and look-alikes, ports, schemes, user information, and what would not arrive as it is written."""
    assert MAP.replaced(url.encode()) is None


def test_an_empty_prefix_gives_way_to_services() -> None:
    """Where listener or host name stand for the service, a path that begins like another one's id keeps the own id."""
    rooted = AddressMap(GITHUB, {}, Arrival(BASE, b"", b"", frozenset(SERVICES)))
    assert rooted.replaced(HERE + b"/user") == BASE + b"/user"
    for path in (b"/slack/x", b"/slack@x/y", b"/slack:443/x", b"/-/health", b""):
        assert rooted.replaced(HERE + path) == BASE + b"/github" + path


def test_a_root_of_google() -> None:
    """The root of a discovery document keeps its meaning: whatever is put behind it reaches the same host unchanged."""
    addresses = AddressMap(CALENDAR, {}, Arrival(BASE, b"/googlecalendar@a"))
    root = addresses.replaced(b"https://www.googleapis.com/")
    assert root == BASE + b"/googlecalendar@a/~api/"
    for path in (b"calendar/v3/calendars/primary", b"calendar/v3/freeBusy"):
        assert match(parse_target(root.removeprefix(BASE) + path), b"POST", CALENDAR).path == b"/" + path
    assert addresses.replaced(b"https://www.googleapis.com/drive/v3/files") is None  # another service's


@pytest.mark.parametrize(
    ("target", "options", "expected"),
    [
        ("/github/user", {}, (b"/github", b"")),
        ("/github@work/user", {}, (b"/github@work", b"")),
        ("/github:443/user", {}, (b"/github", b"")),
        ("/github/~api/user", {}, (b"/github", b"")),
        ("/github/api/v3/user", {}, (b"/github", b"/api/v3")),
        ("/user", {"roots": ("github", None)}, (b"", b"")),
        ("/user", {"roots": (None, "github")}, (b"", b"")),
        ("/api/v3/user", {"roots": ("github", None)}, (b"", b"/api/v3")),
        ("/user", {"host": b"github.localhost:8080", "suffixes": ("localhost",)}, (b"", b"")),
        ("/user", {"host": b"other.localhost:8080", "suffixes": ("localhost",)}, (b"/github", b"")),
        ("/user", {}, (b"/github", b"")),
    ],
)
def test_addresses_look_like_the_request(target: str, options: dict, expected: tuple[bytes, bytes]) -> None:
    """Clients compare the beginnings of addresses with their base URL: prefix and Enterprise spelling are kept."""
    raw = target.encode()
    literal = parse_target(raw)
    route = match(literal if literal.service == "github" else rooted_target(raw, "github"), b"GET", GITHUB)
    given = {"roots": (None, None), "host": b"127.0.0.1:8080", "suffixes": (), **options}
    arrival = arrival_of(raw, route, base=BASE, services=SERVICES, **given)
    assert (arrival.prefix, arrival.spelling) == expected
    new = AddressMap(GITHUB, {}, arrival).replaced(HERE + b"/user")
    assert new == BASE + expected[0] + expected[1] + b"/user"


# --- fields ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "becomes"),
    [
        (b"Location: https://api.github.com/x?y", b"Location: http://127.0.0.1:8080/github/x?y"),
        (b"location: /x", b"location: http://127.0.0.1:8080/github/x"),
        (b"Location: //uploads.github.com/x", b"Location: http://127.0.0.1:8080/github/~uploads/x"),
        (b"Location: ../x", b"Location: ../x"),
        (b"Location: https://example.com/x", b"Location: https://example.com/x"),
        (b"Content-Location: https://api.github.com/x", b"Content-Location: http://127.0.0.1:8080/github/x"),
        (
            b'Link: <https://api.github.com/x?page=2>; rel="next", <https://api.github.com/x?page=9>; rel="last"',
            b'Link: <http://127.0.0.1:8080/github/x?page=2>; rel="next", <http://127.0.0.1:8080/github/x?page=9>; rel="last"',
        ),
        (
            b'Link: <https://api.github.com/x>; title="a, <https://api.github.com/y>"; anchor="https://api.github.com/z",</w>;rel=up',
            b'Link: <http://127.0.0.1:8080/github/x>; title="a, <https://api.github.com/y>"; anchor="https://api.github.com/z",<http://127.0.0.1:8080/github/w>;rel=up',
        ),
        (b"Link: nonsense https://api.github.com/x", b"Link: nonsense https://api.github.com/x"),
        (b"X-Location: https://api.github.com/x", b"X-Location: https://api.github.com/x"),
    ],
)
def test_header_fields(line: bytes, becomes: bytes) -> None:
    """Location and Content-Location hold one reference, Link any number; names, order and parameters stay."""
    lines = b"X-A: 1\r\n" + line + b"\r\nVia: 1.1 connector-proxy\r\n"
    assert mapped_lines(lines, MAP, HERE) == b"X-A: 1\r\n" + becomes + b"\r\nVia: 1.1 connector-proxy\r\n"


def test_what_a_changed_body_makes_untrue() -> None:
    """A strong ETag becomes weak, a weak one stays, digests go; all else keeps its bytes."""
    lines = b'ETag: "a"\r\nContent-MD5: x\r\nDigest: y\r\nContent-Digest: z\r\nRepr-Digest: z\r\nX: "a"\r\n'
    assert of_other_bytes(lines) == b'ETag: W/"a"\r\nX: "a"\r\n'
    assert of_other_bytes(b'ETag: W/"a"\r\n') == b'ETag: W/"a"\r\n'


@pytest.mark.parametrize(
    ("answer", "content_type", "looked_into"),
    [
        (
            AnswerHead(200, b"OK", b"", "length", 9, True, frozenset()),
            b"application/json; charset=utf-8",
            True,
        ),
        (AnswerHead(404, b"", b"", "chunked", None, True, frozenset()), b"application/problem+JSON", True),
        (AnswerHead(206, b"", b"", "length", 9, True, frozenset()), b"application/json", False),
        (AnswerHead(200, b"OK", b"", "length", 9, True, frozenset(), True), b"application/json", False),
        (AnswerHead(200, b"OK", b"", "eof", None, False, frozenset()), b"text/event-stream", False),
        (AnswerHead(200, b"OK", b"", "length", 9, True, frozenset()), b"application/octet-stream", False),
        (AnswerHead(200, b"OK", b"", "length", 9, True, frozenset()), b"", False),
    ],
)
def test_which_bodies_are_looked_into(answer: AnswerHead, content_type: bytes, *, looked_into: bool) -> None:
    """JSON without a coding, whole, of any status; its length is not known before its end."""
    head_, members = Links(MAP, HERE, Names(["url"])).applied(answer, content_type)
    assert (members is not None) is looked_into
    assert head_.length == (None if looked_into else answer.length)


@pytest.mark.parametrize("status", [200, 304])
def test_a_head_without_a_body_says_what_a_get_would(status: int) -> None:
    """HEAD and 304: no length, since that of the changed body is not known, and the weak ETag of a GET."""
    answer = AnswerHead(status, b"", b'ETag: "a"\r\n', "none", 120, True, frozenset())
    made, members = Links(MAP, HERE, Names(["url"])).applied(answer, b"application/json")
    assert (made.length, made.lines, made.body, members) == (None, b'ETag: W/"a"\r\n', "none", None)


# --- capability addresses -------------------------------------------------------------------------------

TWIN = OTHER_KEY[:4] + KEY_ID.encode() + OTHER_KEY[12:]
UPLOAD = b"https://files.slack.com/upload/v1/ABC%2Fd?sig=a%20b&x"


def capability(
    url: bytes = UPLOAD, *, now: float = NOW, by: Capabilities = CAPABILITIES, **more: object
) -> bytes:
    mint = by.minting(SLACK, record("slack", **more), now)
    found = AddressMap(SLACK, {}, Arrival(BASE, b"/slack@a"), mint).replaced(url)
    assert found is not None
    return found.removeprefix(BASE)


def judged(
    raw: bytes,
    method: bytes = b"PUT",
    *,
    now: float = NOW,
    keys: object = None,
    peer: str | None = "127.0.0.1",
):
    target = parse_target(raw)
    keyring = ring(record("slack")) if keys is None else keys
    return CAPABILITIES.judged(target, method, SERVICES[target.service], keyring=keyring, now=now, peer=peer)


def test_a_presigned_address_becomes_a_capability() -> None:
    """It names service, expiry, key id, host, path and query, leads to exactly those, and carries no token."""
    raw = capability()
    assert raw.startswith(b"/slack/~~%d." % (NOW + LONGEST_S))
    assert raw.endswith(b"/files.slack.com/upload/v1/ABC%2Fd?sig=a%20b&x")
    grant, route = judged(raw)
    assert grant.record.key_id == KEY_ID
    assert (route.path, route.query, route.connection) == (b"/upload/v1/ABC%2Fd", b"sig=a%20b&x", None)
    came = head("PUT", raw.decode(), (b"Authorization", b"Bearer xoxb-own"), (b"X-Amz-Meta", b"1"))
    sent = request_head(came, route, bare(route), None)
    assert sent.startswith(b"PUT /upload/v1/ABC%2Fd?sig=a%20b&x HTTP/1.1\r\nHost: files.slack.com\r\n")
    assert b"uthorization" not in sent
    assert b"X-Amz-Meta: 1\r\n" in sent


def test_other_paths_of_the_host_need_the_token() -> None:
    """Private files on the same host are no presigned addresses."""
    mint = CAPABILITIES.minting(SLACK, record("slack"), NOW)
    addresses = AddressMap(SLACK, {}, Arrival(BASE, b"/slack"), mint)
    assert (
        addresses.replaced(b"https://files.slack.com/files-pri/T1/a.png")
        == BASE + b"/slack/~files/files-pri/T1/a.png"
    )
    template = addresses.replaced(b"https://files.slack.com/upload/v1/{id}")
    assert template == BASE + b"/slack/~files/upload/v1/{id}"  # its address is not known yet


@pytest.mark.parametrize(
    ("url", "is_presigned"),
    [
        ("https://dl.boxcloud.com/d/1/x?t=1", True),
        ("https://public.dl.boxcloud.com/d/1/x", True),
        ("https://boxcloud.com/d/1/x", False),
        ("https://evilboxcloud.com/d/1/x", False),
        ("https://dl.boxcloud.com.evil.example/d/1/x", False),
        ("https://dl.boxcloud.com:8443/d/1/x", False),
        ("https://me@dl.boxcloud.com/d/1/x", False),
        ("http://dl.boxcloud.com/d/1/x", False),
        ("https://dl.boxcloud.com", False),
        ("https://dl.boxcloud.com/a/../b", False),
    ],
)
def test_hosts_below_a_domain(url: str, *, is_presigned: bool) -> None:
    """A domain stands for all hosts below it by whole labels, on the usual port over TLS, and for nothing else."""
    mint = CAPABILITIES.minting(SERVICES["box"], record("box"), NOW)
    new = AddressMap(SERVICES["box"], {}, Arrival(BASE, b"/box"), mint).replaced(url.encode())
    assert (new is not None) is is_presigned
    assert new is None or new.startswith(BASE + b"/box/~~")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"files.slack.com", b"hooks.slack.com"),
        (b"files.slack.com", b"evil.example"),
        (b"/upload/v1/ABC", b"/upload/v1/ABD"),
        (b"%2F", b"%2f"),
        (b"?sig", b"?Sig"),
        (b"&x", b""),
        (b"&x", b"&x&"),
        (b"/slack/", b"/slackbot/"),
        (b"~~1", b"~~2"),
        (b"~~", b"~~0"),
        (b".", b".."),
        (b"~~", b"~~~"),
    ],
)
def test_nothing_else_can_be_asked_for(old: bytes, new: bytes) -> None:
    """Whatever is changed in the address, in any part, it is refused, always with the same sentence."""
    raw = capability().replace(old, new, 1)
    with pytest.raises(NotPermitted, match="not one that the proxy gave out"):
        judged(raw)


@pytest.mark.parametrize(
    ("told", "asked", "is_same"),
    [
        (b"?guid='1'&t=v1", b"?guid=%271%27&t=v1", True),  # fetch
        (b"?t=%7Etmp%2D1", b"?t=~tmp-1", True),  # requests
        (b"/%41/b", b"/A/b", True),
        (b"?t=a%2Fb", b"?t=a/b", False),
        (b"?t=a%26b", b"?t=a&b", False),
        (b"?t=a%20b", b"?t=a+b", False),
        (b"?t=%2541", b"?t=%41", False),
    ],
)
def test_url_libraries_may_respell_it(told: bytes, asked: bytes, *, is_same: bool) -> None:
    """An address may come back as fetch or requests write it, and goes on as it came; what means another thing is refused."""
    raw = capability(b"https://files.slack.com/upload/v1/ABC" + told)
    assert told in raw
    respelt = raw.replace(told, asked)
    if is_same:
        assert judged(respelt).route.path.startswith(b"/upload/v1/ABC")
        return
    with pytest.raises(NotPermitted, match="not one that the proxy gave out"):
        judged(respelt)


@pytest.mark.parametrize(
    ("why", "options"),
    [
        ("expired", {"now": NOW + LONGEST_S}),
        ("revoked", {"keys": ring(record("slack", revoked_at=1.0))}),
        ("gone", {"keys": ring()}),
        ("another key of that id", {"keys": ring(record("slack", key=TWIN))}),
        ("no permit any more", {"keys": ring(record("github"))}),
        ("a service key", {"keys": ring(record("slack", kind="service"))}),
    ],
)
def test_it_lives_no_longer_than_its_key(why: str, options: dict) -> None:
    """At most 24 hours, and only while the key that asked is valid and may use the service."""
    raw = capability()
    judged(raw)
    with pytest.raises(NotPermitted):
        judged(raw, **options)


def test_the_keys_own_end_and_networks_count() -> None:
    """A key that ends earlier ends its addresses earlier, and its networks are theirs."""
    assert capability(expires_at=NOW + 60).startswith(b"/slack/~~%d." % (NOW + 60))
    network = (ipaddress.ip_network("10.0.0.0/8"),)
    raw, keys = capability(networks=network), ring(record("slack", networks=network))
    assert judged(raw, keys=keys, peer="10.1.2.3").grant.record.networks == network
    with pytest.raises(NotPermitted):
        judged(raw, keys=keys)


def test_only_instances_with_the_secret_give_them_out() -> None:
    """What another instance made counts if it has the same secret, and only then."""
    judged(capability(by=replace(CAPABILITIES)))
    with pytest.raises(NotPermitted):
        judged(capability(by=Capabilities(b"another")))
    assert "secret" not in repr(CAPABILITIES)


def test_methods_of_uploads_and_downloads() -> None:
    """GET, HEAD, PUT, POST and DELETE; others are refused only once the address has been found good."""
    raw = capability()
    for method in (b"GET", b"HEAD", b"PUT", b"POST", b"DELETE"):
        judged(raw, method)
    with pytest.raises(MethodNotAllowed):
        judged(raw, b"PATCH")
    with pytest.raises(NotPermitted):
        judged(raw + b"x", b"PATCH")


def test_hand_made_services_are_used_too() -> None:
    """The map needs nothing of the shipped files: a service of a user's folder gets its addresses as well."""
    box = BY_ID["box"]
    addresses = AddressMap(box, {}, Arrival(BASE, b"/box"))
    assert addresses.replaced(b"https://upload.box.com/api/2.0/x") == BASE + b"/box/~upload/api/2.0/x"
    assert addresses.replaced(b"https://api.box.com/2.0/x") == BASE + b"/box/2.0/x"
