"""Finding a key in a request, and telling whose it is."""

import base64
import ipaddress
import itertools

import pytest
from support.steps import CALENDAR, KEY, OTHER_KEY, SALESFORCE, SLACK, TIKTOK, bearer, head, record, ring

from proxy.errors import AmbiguousKey, InvalidKey
from proxy.forwarding.keys import KeyRing, body_places, find_key

AUTH = b"Authorization"


def basic(text: bytes) -> bytes:
    return b"Basic " + base64.b64encode(text)


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer " + KEY,
        b"bearer " + KEY,
        b"BEARER  " + KEY + b" ",
        b"token " + KEY,
        b"Bot " + KEY,
        KEY,
        basic(b"x:" + KEY),
        basic(b":" + KEY),
        basic(KEY + b":"),
        basic(KEY),
        basic(KEY + b":" + KEY),
        b"basic " + base64.b64encode(KEY + b":x"),
    ],
    ids=itertools.count(),  # not the key, which is another one in each run
)
def test_forms_of_authorization(value):
    """A key is taken from Authorization bare, after the schemes that SDKs use, and from either half of Basic."""
    assert find_key(head("GET", "/slack/x", (AUTH, value)), SLACK, None).key == KEY


@pytest.mark.parametrize(
    ("service", "fields", "query"),
    [
        pytest.param(None, [(b"X-Api-Key", KEY)], None, id="general"),
        pytest.param(None, [(b"x-goog-api-key", KEY)], None, id="google"),
        pytest.param(SALESFORCE, [(b"X-SFDC-Session", KEY)], None, id="declared-header"),
        pytest.param(SALESFORCE, [(b"x-sfdc-session", b"Bearer " + KEY)], None, id="declared-header-scheme"),
        pytest.param(TIKTOK, [(b"Access-Token", KEY)], None, id="tiktok"),
        pytest.param(CALENDAR, [], b"a=1&key=" + KEY, id="declared-parameter"),
        pytest.param(CALENDAR, [], b"Key=%63" + KEY[1:], id="encoded-parameter"),
        pytest.param(SLACK, [bearer(), (b"X-Api-Key", KEY), (b"X-Api-Key", KEY)], b"token=" + KEY, id="everywhere-the-same"),
        pytest.param(SLACK, [bearer(), (b"X-Api-Key", b"")], b"token=", id="empty-places"),
    ],
)  # fmt: skip
def test_places(service, fields, query):
    """A key is found in the general places and those of the literal service; the same one may repeat (R86)."""
    assert find_key(head("GET", "/x/y", *fields), service, query).key == KEY


@pytest.mark.parametrize(
    ("service", "fields", "query"),
    [
        pytest.param(SLACK, [], None, id="none"),
        pytest.param(SLACK, [(AUTH, b"")], None, id="empty"),
        pytest.param(SLACK, [(AUTH, b"Bearer xoxb-1")], None, id="foreign"),
        pytest.param(SLACK, [(AUTH, b"Bearer " + KEY[:-1])], None, id="short"),
        pytest.param(SLACK, [(AUTH, b"Bearer " + KEY + b"x")], None, id="long"),
        pytest.param(SLACK, [(AUTH, b"Bearer " + KEY + b" " + KEY)], None, id="two-in-one"),
        pytest.param(SLACK, [(AUTH, b"Digest " + KEY)], None, id="unknown-scheme"),
        pytest.param(SLACK, [(AUTH, b"Basic !!!")], None, id="not-base64"),
        pytest.param(SLACK, [(b"Access-Token", KEY)], None, id="place-of-another-service"),
        pytest.param(None, [], b"key=" + KEY, id="parameter-without-service"),
        pytest.param(SLACK, [], b"key=" + KEY, id="parameter-not-declared"),
        pytest.param(SLACK, [(b"Cookie", b"token=" + KEY)], None, id="cookie"),
        pytest.param(SLACK, [(b"Proxy-Authorization", b"Bearer " + KEY)], None, id="proxy-authorization"),
    ],
)
def test_no_key(service, fields, query):
    """Without a key in a place for keys the request is refused as one with a bad key (R84, R85, R87)."""
    with pytest.raises(InvalidKey):
        find_key(head("GET", "/x/y", *fields), service, query)


@pytest.mark.parametrize(
    ("service", "fields", "query"),
    [
        pytest.param(None, [bearer(), (b"X-Api-Key", OTHER_KEY)], None, id="two-headers"),
        pytest.param(None, [(b"X-Api-Key", KEY), (b"X-Api-Key", OTHER_KEY)], None, id="one-header-twice"),
        pytest.param(SLACK, [bearer()], b"token=" + OTHER_KEY, id="header-and-query"),
        pytest.param(SLACK, [], b"token=" + KEY + b"&token=" + OTHER_KEY, id="query-twice"),
        pytest.param(None, [(AUTH, basic(KEY + b":" + OTHER_KEY))], None, id="two-in-basic"),
        pytest.param(SLACK, [bearer()], b"token=xoxp-own", id="R91-foreign-token-beside"),
        pytest.param(
            None, [(AUTH, b"Bearer gho_own"), (b"X-Api-Key", KEY)], None, id="R91-foreign-authorization"
        ),
        pytest.param(TIKTOK, [bearer(), (b"Access-Token", b"foreign")], None, id="R91-foreign-own-header"),
    ],
)
def test_two_credentials(service, fields, query):
    """Two different credentials in places for keys are refused, whichever is good (R86, R91)."""
    with pytest.raises(AmbiguousKey):
        find_key(head("GET", "/x/y", *fields), service, query)


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("GET", [(b"Sec-Fetch-Site", b"cross-site")]),
        ("OPTIONS", [(b"Origin", b"https://a"), (b"Access-Control-Request-Method", b"PUT")]),
    ],
)
def test_pages_are_refused(method, fields):
    """A page of another site gets nowhere, even with a good key; preflights neither (R88)."""
    with pytest.raises(InvalidKey):
        find_key(head(method, "/slack/x", bearer(), *fields), SLACK, None)


def test_body_values_are_places_too():
    """What was found in the body counts as every other place does."""
    assert find_key(head("POST"), SLACK, None, [KEY]).key == KEY
    with pytest.raises(AmbiguousKey):
        find_key(head("POST", "/slack/x", bearer()), SLACK, None, [OTHER_KEY])


def test_body_places_are_declared_by_path():
    """The body is only looked into on the paths that the service declares."""
    assert [place.name for place in body_places(SALESFORCE, b"/services/Soap/u/59.0")] == ["sessionId"]
    assert body_places(SALESFORCE, b"/services/data") == ()
    assert [place.where for place in body_places(SLACK, b"/api/auth.test")] == ["form"]


def test_a_found_key_does_not_print():
    """A key that was found shows in no repr (R143)."""
    found = find_key(head("GET", "/slack/x", bearer()), SLACK, None)
    assert KEY.decode() not in repr(found)
    assert KEY.decode() not in f"{found}"


def test_authenticate():
    """A valid key gives its record and compiled permits."""
    grant = ring(record("slack:GET")).authenticate(KEY, now=0.0, peer_ip=None)
    assert grant.record.name == "test"
    assert grant.permits.allows("slack", None, "GET", b"/x")
    assert not grant.permits.allows("slack", None, "POST", b"/x")


NETWORK = ipaddress.ip_network("10.0.0.0/8")


@pytest.mark.parametrize(
    ("stored", "presented", "now", "peer"),
    [
        pytest.param(record("slack"), OTHER_KEY, 0.0, None, id="unknown"),
        pytest.param(
            record("slack"), KEY[:-1] + (b"0" if KEY[-1:] != b"0" else b"1"), 0.0, None, id="changed"
        ),
        pytest.param(record("slack"), b"", 0.0, None, id="empty"),
        pytest.param(record("slack"), b"\xff" * 300, 0.0, None, id="garbage"),
        pytest.param(record("slack", revoked_at=1.0), KEY, 0.0, None, id="revoked"),
        pytest.param(record("slack", expires_at=1.0), KEY, 1.0, None, id="expired"),
        pytest.param(record("slack", kind="service"), KEY, 0.0, None, id="wrong-kind"),
        pytest.param(record("slack", networks=(NETWORK,)), KEY, 0.0, "11.0.0.1", id="wrong-network"),
        pytest.param(record("slack", networks=(NETWORK,)), KEY, 0.0, "::1", id="wrong-family"),
        pytest.param(record("slack", networks=(NETWORK,)), KEY, 0.0, None, id="no-address"),
        pytest.param(record("slack", networks=(NETWORK,)), KEY, 0.0, "nonsense", id="bad-address"),
    ],
)
def test_every_refusal_is_the_same(stored, presented, now, peer):
    """Unknown, changed, revoked, expired, of another kind or from elsewhere: one and the same answer (R84, R90)."""
    with pytest.raises(InvalidKey) as caught:
        ring(stored).authenticate(presented, now=now, peer_ip=peer)
    with pytest.raises(InvalidKey) as none:
        find_key(head(), None, None)
    assert caught.value.detail == none.value.detail
    assert caught.value.service is None


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3"])
def test_networks(peer):
    """A key bound to networks works from inside of them, mapped addresses included (R90)."""
    assert ring(record("slack", networks=(NETWORK,))).authenticate(KEY, now=0.0, peer_ip=peer)


def test_service_keys_on_their_own_plane():
    """A listener that takes service keys takes no others."""
    keys = ring(record("slack", kind="service"), record("slack", key=OTHER_KEY))
    assert keys.authenticate(KEY, now=0.0, peer_ip=None, kind="service")
    with pytest.raises(InvalidKey):
        keys.authenticate(OTHER_KEY, now=0.0, peer_ip=None, kind="service")


def test_unreadable_permits_permit_nothing():
    """A stored permit that cannot be read is named and permits nothing; the key's other permits stay."""
    keys = ring(record("slack:", "github"))
    grant = keys.authenticate(KEY, now=0.0, peer_ip=None)
    assert not grant.permits.reaches("slack")
    assert grant.permits.reaches("github")
    assert [fault.place for fault in keys.faults] == ["key test"]


def test_an_empty_ring_refuses():
    """Without any key everything is refused."""
    assert len(KeyRing({})) == 0
    with pytest.raises(InvalidKey):
        KeyRing({}).authenticate(KEY, now=0.0, peer_ip=None)
