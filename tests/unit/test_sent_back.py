"""Addresses of the proxy in JSON on its way to a service: which values count, and what they stand for."""

import json
from functools import partial

import pytest
from support.sent_back import whose
from support.steps import KEY_ID, record, ring

from proxy.catalog.loader import load_catalog
from proxy.errors import BadRequest, CallerError, NotPermitted
from proxy.forwarding.links.addresses import AddressMap, Arrival
from proxy.forwarding.links.capability import Capabilities
from proxy.forwarding.links.declared import sent_back_to
from proxy.forwarding.links.members import Names
from proxy.forwarding.links.sent_back import may_hold, own_address, with_own
from proxy.forwarding.routing import Route, Target

SERVICES = load_catalog().services
TEAMS, SLACK = SERVICES["microsoft_teams"], SERVICES["slack"]
HOST = b"127.0.0.1:8080"
BASE = b"http://" + HOST
ME = whose(SERVICES, HOST)
NAMES = Names(["@odata.id", "*@odata.bind", "slack_file.*"])
NOW = 1_000_000.0
CAPABILITIES = Capabilities(b"secret of the instance")


def graph(text: str) -> bytes:
    """The text with its addresses of the proxy as Graph's, where they count."""
    return with_own(text.encode(), partial(own_address, service=TEAMS, whose=ME), NAMES)


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/microsoft_teams/v1.0/users/1", "https://graph.microsoft.com/v1.0/users/1"),
        ("/microsoft_teams/users('a')?x=%2F&y", "https://graph.microsoft.com/v1.0/users('a')?x=%2F&y"),
        ("/microsoft_teams@main/beta/users/1", "https://graph.microsoft.com/beta/users/1"),
        ("/microsoft_teams/~api/v1.0/users/1", "https://graph.microsoft.com/v1.0/users/1"),
        ("/microsoft_teams:443/v1.0/a%2Fb", "https://graph.microsoft.com/v1.0/a%2Fb"),
    ],
)
@pytest.mark.parametrize("base", ["http://127.0.0.1:8080", "https://127.0.0.1:8080", "HTTP://127.0.0.1:8080"])
def test_what_addresses_stand_for(base: str, path: str, own: str) -> None:
    """An address of the proxy becomes what a request to it would have been sent to, its query byte for byte."""
    assert own_address((base + path).encode(), TEAMS, ME) == own.encode()


@pytest.mark.parametrize(
    "url",
    [
        b"https://graph.microsoft.com/v1.0/users/1",
        b"http://127.0.0.1:8081/microsoft_teams/v1.0/me",
        b"http://127.0.0.1:8080.evil.example/microsoft_teams/v1.0/me",
        b"http://127.0.0.1:8080@evil.example/microsoft_teams/v1.0/me",
        b"ftp://127.0.0.1:8080/microsoft_teams/v1.0/me",
        b"/microsoft_teams/v1.0/me",
        b" http://127.0.0.1:8080/microsoft_teams/v1.0/me",
        b"see http://127.0.0.1:8080/microsoft_teams/v1.0/me",
        b"",
    ],
)
def test_what_is_no_address_of_the_proxy_stays(url: bytes) -> None:
    """The service's own addresses, other hosts and ports, look-alikes, and texts that only hold one."""
    assert own_address(url, TEAMS, ME) is None


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (b"/outlook/v1.0/me", "not one of microsoft_teams"),
        (b"/slack/api.test", "not one of microsoft_teams"),
        (b"/unknown/x", "not one of microsoft_teams"),
        (b"", "not one of microsoft_teams"),
        (b"?x=/microsoft_teams/", "not one of microsoft_teams"),
        (b"/-/health", "not one of microsoft_teams"),
        (b"/microsoft_teams@other/v1.0/me", "another connection"),
        (b"/microsoft_teams/v1.0/../x", "dot segment"),
        (b"/microsoft_teams/v1.0/%2e%2e/x", "dot segment"),
        (b"/microsoft_teams/v1.0/me#x", "fragment"),
        (b"/microsoft_teams/v1.0/a b", "encoding"),
        ("/microsoft_teams/v1.0/ü".encode(), "encoding"),
        (b"/microsoft_teams/v1.0\\me", "backslash"),
        (b"/microsoft_teams/~nowhere/x", "no such host"),
    ],
)
def test_what_leads_elsewhere_is_refused(path: bytes, why: str) -> None:
    """Another service or connection, no service, two readings: the body does not go, and the answer says why."""
    with pytest.raises(BadRequest, match=why):
        own_address(BASE + path, TEAMS, ME)


def test_listeners_and_keys_of_one_service_need_no_prefix() -> None:
    """Where requests may leave the service unnamed, so may addresses; a literal id wins there too."""
    bare = BASE + b"/v1.0/me"
    for more in ({"listener": "microsoft_teams"}, {"root": "microsoft_teams"}):
        mine = whose(SERVICES, HOST, **more)
        assert own_address(bare, TEAMS, mine) == b"https://graph.microsoft.com/v1.0/me"
        with pytest.raises(BadRequest):
            own_address(BASE + b"/slack/api.test", TEAMS, mine)
    host = b"microsoft_teams.proxy.example"
    mine = whose(SERVICES, host, suffixes=("proxy.example",))
    assert own_address(b"http://" + host + b"/v1.0/me", TEAMS, mine) == b"https://graph.microsoft.com/v1.0/me"


def test_capability_addresses_become_what_they_were_made_of() -> None:
    """Signed, of this service and this key, and not expired: only then it is resolved (as a request would be)."""
    upload = b"https://files.slack.com/upload/v1/ABC%2Fd?sig=a%20b&x"
    minted = CAPABILITIES.minting(SLACK, record("slack"), NOW)
    ours = AddressMap(SLACK, {}, Arrival(BASE, b"/slack"), minted).replaced(upload)
    assert ours is not None

    def presigned(target: Target, now: float = NOW) -> Route:
        judged = CAPABILITIES.judged(target, b"GET", SLACK, keyring=ring(record("slack")), now=now, peer=None)
        assert judged.grant.record.key_id == KEY_ID
        return judged.route

    mine = whose(SERVICES, HOST, presigned=presigned)
    assert own_address(ours, SLACK, mine) == upload
    late = whose(SERVICES, HOST, presigned=partial(presigned, now=NOW + 100_000))
    for url, caller in ((ours.replace(b"ABC", b"ABD"), mine), (ours, late), (ours, ME)):
        with pytest.raises(NotPermitted, match="the body names an address of the proxy"):
            own_address(url, SLACK, caller)
    with pytest.raises(BadRequest, match="not one of microsoft_teams"):
        own_address(ours, TEAMS, mine)


OURS, OWN = "http://127.0.0.1:8080/microsoft_teams/v1.0/users/1", "https://graph.microsoft.com/v1.0/users/1"


@pytest.mark.parametrize(
    "text",
    [
        '{"@odata.id":"%"}',
        ' { "@odata.id" : "%" , "n": 1.00e2 } ',
        '{"owners@odata.bind":["%","%"],"members@odata.bind":[ "%" ]}',
        '{"members":[{"roles":["owner"],"user@odata.bind":"%"}]}',
        '{"slack_file":{"url":"%","id":"F1","urls":["%"]}}',
        '[{"@odata.id":"%"},{"@odata.id":null},{"@odata.id":"%"}]',
        '{"@odata\\u002eid":"%"}',
    ],
)
def test_declared_values_are_replaced(text: str) -> None:
    """Values of declared members, elements of an array there, and members of an object declared as a whole."""
    assert graph(text.replace("%", OURS)) == text.replace("%", OWN).encode()


@pytest.mark.parametrize(
    "text",
    [
        '{"id":"%","resource":"%"}',
        '{"%":"@odata.id"}',
        '{"@odata.id":{"url":"%"}}',
        '{"owners@odata.bind":[["%"],{"url":"%"}]}',
        '{"slack_file":[{"url":"%"}],"other":{"slack_file":"%"}}',
        '{"text":"\\"@odata.id\\":\\"%\\""}',
        '{"@odata.id":"see %"}',
        '"%"',
        "%",
        '{"@odata.id":"%',
        '}{"@odata.id":"%"}',
    ],
)
def test_everything_else_keeps_its_bytes(text: str) -> None:
    """Other members, names, texts inside of texts, deeper values, and what is no JSON."""
    assert graph(text.replace("%", OURS)) == text.replace("%", OURS).encode()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (OURS.replace("/", "\\/"), OWN.replace("/", "\\/")),
        ("".join(f"\\u{ord(c):04x}" for c in OURS), OWN),
        ("".join(f"\\u{ord(c):04X}" for c in OURS), OWN),
        (OURS + '?$search=\\"a\\"', OWN + '?$search=\\"a\\"'),
    ],
)
def test_every_way_to_write_a_text(written: str, expected: str) -> None:
    """Escapes of JSON are understood; the new value is written with slashes as the old one was."""
    sent = graph(f'{{"@odata.id":"{written}"}}')
    assert sent == b'{"@odata.id":"%b"}' % expected.encode()
    json.loads(sent)


def test_what_is_refused_is_refused_at_any_depth() -> None:
    """One address that leads elsewhere stops the body, wherever it stands."""
    other = OURS.replace("microsoft_teams", "slack")
    with pytest.raises(CallerError):
        graph(json.dumps({"members": [{"user@odata.bind": OURS}, {"user@odata.bind": other}]}))


def test_a_body_without_an_end_is_read_once() -> None:
    """A text that is never closed, with hundreds of thousands of escaped quotes in it, is read in one go."""
    body = b'{"@odata.id":"' + b'\\"' * 400_000 + OURS.encode()
    assert with_own(body, partial(own_address, service=TEAMS, whose=ME), NAMES) == body


def test_most_bodies_are_not_read_at_all() -> None:
    """Without the proxy's name, or an escape that could hide it, no value can be such an address."""
    origins = ME.origins
    assert not may_hold(b'{"@odata.id":"https://graph.microsoft.com/v1.0/me","s":"\\u00fc"}', origins)
    assert may_hold(b'{"@odata.id":"http:\\/\\/127.0.0.1:8080\\/x"}', origins)
    assert may_hold(b'{"@odata.id":"http://127.0.0.1\\u003a8080/x"}', origins)


@pytest.mark.parametrize(
    ("service", "path", "names"),
    [
        ("microsoft_teams", b"/v1.0/groups/1/members/$ref", ["@odata.id"]),
        ("microsoft_teams", b"/v1.0/groups/1/members/%24ref", ["@odata.id"]),
        ("microsoft_teams", b"/v1.0/teams", ["template@odata.bind"]),
        ("outlook", b"/v1.0/groups/1", ["members@odata.bind"]),
        ("share_point", b"/sites/a/_api/web/lists('1')/subscriptions", ["resource"]),
        ("slack", b"/api/chat.postMessage", []),
        ("typeform", b"/forms/a", ["href"]),
    ],
)
def test_shipped_files_say_where(service: str, path: bytes, names: list[str]) -> None:
    """References of Graph, webhooks of SharePoint, files in Slack's messages, themes of Typeform."""
    found = sent_back_to(SERVICES[service], path)
    assert found is not None
    assert all(found.wanted(name.encode()) for name in names)


@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("one_drive", b"/v1.0/me/drive/root:/members.json:/content"),
        ("outlook", b"/v1.0/subscriptions"),
        ("outlook", b"/v1.0/me/sendMail"),
        ("slack", b"/api/files.info"),
        ("github", b"/repos/o/r/issues"),
        ("googledrive", b"/upload/drive/v3/files"),
    ],
)
def test_other_paths_are_not_looked_into(service: str, path: bytes) -> None:
    """Files, mails, and services whose calls take no addresses of their own stream as ever."""
    assert sent_back_to(SERVICES[service], path) is None
