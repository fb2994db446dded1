"""Values for tests of the pure steps: services built by hand, heads through the gate, keys through the ring."""

from collections.abc import Sequence

from proxy.catalog.model import Auth, Host, KeyPlace, Rule, Service
from proxy.catalog.origin import OriginTemplate
from proxy.catalog.patterns import PathPattern, SpellingSet
from proxy.forwarding.gate import Head, Limits, gate
from proxy.forwarding.injection import Injection, prepare
from proxy.forwarding.keys import Grant, KeyRing, Presented, find_key
from proxy.forwarding.permits import check, effective_method
from proxy.forwarding.rewrite import request_head
from proxy.forwarding.routing import Route, match, parse_target, resolve_host
from proxy.keys import KeyRecord, digest, generate
from proxy.secret import Secret

Fields = Sequence[tuple[bytes, bytes]]

TOKEN = "real-token-of-the-account"
HOST: tuple[bytes, bytes] = (b"Host", b"127.0.0.1:8080")


def host(name: str, authority: str, **more) -> Host:
    return Host(name, OriginTemplate(f"https://{authority}"), **more)


def rule(path: str, to: str, *methods: str, strip: str = "", prepend: str = "") -> Rule:
    return Rule(frozenset(methods), PathPattern(path), to, strip, prepend)


def service(type_id: str, *hosts: Host, **more) -> Service:
    return Service(
        type_id=type_id,
        title=type_id,
        docs="",
        console="",
        verified="documents",
        source_file="-",
        hosts=hosts,
        **more,
    )


def patterns(*texts: str) -> tuple[PathPattern, ...]:
    return tuple(PathPattern(text) for text in texts)


SLACK = service(
    "slack",
    host("api", "slack.com"),
    host("files", "files.slack.com"),
    base_path="/api",
    roots=("/api/", "/files-pri/"),
    rules=(rule("/files-pri/**", "files"),),
    credential_paths=SpellingSet(("/api/auth.revoke", "/api/oauth.**", "/oauth/**")),
    key_places=(KeyPlace("form", "token", patterns("/api/**")), KeyPlace("query", "token")),
)
DROPBOX = service(
    "dropbox",
    host("api", "api.dropboxapi.com"),
    host("content", "content.dropboxapi.com"),
    host("notify", "notify.dropboxapi.com", token="none"),
    base_path="/2",
    roots=("/2/", "/oauth2/"),
    rules=(
        rule("/2/files/upload", "content", "POST"),
        rule("/2/files/download*", "content", "POST"),
        rule("/2/files/list_folder/longpoll", "notify", "POST"),
    ),
    credential_paths=SpellingSet(("/2/auth/token/revoke", "/oauth2/**")),
)
BOX = service(
    "box",
    host("api", "api.box.com"),
    host("upload", "upload.box.com"),
    base_path="/2.0",
    roots=("/2.0/", "/api/2.0/"),
    rules=(
        rule("/2.0/files/content", "upload", "POST", prepend="/api"),
        rule("/api/2.0/**", "upload"),
    ),
)
GITHUB = service(
    "github",
    host("api", "api.github.com"),
    host("uploads", "uploads.github.com"),
    rules=(
        rule("/api/v3/**", "", strip="/api/v3"),
        rule("/api/graphql", "", strip="/api"),
        rule("/repos/*/*/releases/*/assets", "uploads", "POST"),
    ),
    headers=(("X-GitHub-Api-Version", "2022-11-28"),),
)
CALENDAR = service(
    "googlecalendar",
    host("api", "www.googleapis.com", prefixes=("/calendar/v3/", "/batch/calendar/v3", "/discovery/")),
    base_path="/calendar/v3",
    roots=("/calendar/v3/", "/batch", "/discovery/"),
    batch_paths=SpellingSet(("/batch/**",)),
    key_places=(KeyPlace("query", "key"),),
)
SALESFORCE = service(
    "salesforce",
    Host("api", OriginTemplate("https://{host}", suffixes=("my.salesforce.com",))),
    host("login", "login.salesforce.com"),
    key_places=(
        KeyPlace("header", "X-SFDC-Session", patterns("/services/async/**"), replace=True),
        KeyPlace("query", "oauth_token", replace=True),
        KeyPlace("soap", "sessionId", patterns("/services/Soap/**"), replace=True),
    ),
    method_override=("_HttpMethod",),
    header_underscores=True,
)
TIKTOK = service(
    "tiktok",
    host("open", "open.tiktokapis.com"),
    host("business", "business-api.tiktok.com", auth=Auth("header", "Access-Token")),
    rules=(rule("/open_api/**", "business"),),
    key_places=(KeyPlace("header", "Access-Token"),),
)
WRIKE = service(
    "wrike",
    host("us", "www.wrike.com"),
    host("eu", "app-eu.wrike.com", when={"region": "eu"}),
    base_path="/api/v4",
    roots=("/api/",),
)
ALL = (SLACK, DROPBOX, BOX, GITHUB, CALENDAR, SALESFORCE, TIKTOK, WRIKE)
BY_ID = {each.type_id: each for each in ALL}
CONFIG = {"host": "acme.my.salesforce.com"}

KEY_ID, _SECRET_KEY = generate()
KEY = _SECRET_KEY.reveal().encode()
OTHER_KEY = generate()[1].reveal().encode()


def record(*permits: str, key: bytes = KEY, **more) -> KeyRecord:
    return KeyRecord(key[4:12].decode(), "test", digest(key), permits, **more)


def ring(*records: KeyRecord) -> KeyRing:
    return KeyRing({each.key_id: each for each in records})


def head(
    method: str = "GET",
    target: str = "/slack/api.test",
    *fields: tuple[bytes, bytes],
    version: tuple[int, int] = (1, 1),
    limits: Limits = Limits(),  # noqa: B008  # frozen
) -> Head:
    """A head through the gate; Host is added."""
    return gate(method, target, version, (HOST, *fields), limits)


def bearer(key: bytes = KEY) -> tuple[bytes, bytes]:
    return (b"Authorization", b"Bearer " + key)


def injection(route: Route, token: str = TOKEN) -> Injection:
    chosen = resolve_host(route, CONFIG)
    return prepare(route.service, chosen, token=Secret(token), config=CONFIG)


def outgoing(
    method: str,
    target: str,
    *fields: tuple[bytes, bytes],
    permits: Sequence[str] = ("*",),
    token: str = TOKEN,
) -> bytes:
    """The whole pure way of one request, in the data path's order: the outgoing head."""
    came = head(method, target, *fields)
    goal = parse_target(came.target)
    known = BY_ID[goal.service]
    presented: Presented = find_key(came, known, goal.query)
    grant: Grant = ring(record(*permits)).authenticate(presented.key, now=0.0, peer_ip="127.0.0.1")
    route = match(goal, came.method, known)
    check(grant.permits, known, None, effective_method(came, goal.query, known), route.path)
    return request_head(came, route, injection(route, token), presented)


def split_head(raw: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Request line and fields of an outgoing head, by a plain second reading."""
    assert raw.endswith(b"\r\n\r\n")
    assert raw.count(b"\r\n\r\n") == 1
    first, *lines = raw[:-4].split(b"\r\n")
    fields = []
    for line in lines:
        name, _, value = line.partition(b": ")
        fields.append((name, value))
    return first, fields
