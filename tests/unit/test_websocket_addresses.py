"""Addresses of WebSockets in answers: what they become, where they are looked for, and how long they are good."""

import pytest
from support.plane import Source
from support.steps import head, record, ring
from support.websockets import OFFER

from proxy.catalog.loader import load_catalog
from proxy.catalog.model import Catalog
from proxy.errors import InvalidKey, NotPermitted, RequestError
from proxy.forwarding.handler.standing import why_over
from proxy.forwarding.handler.terms import Admitted, Terms
from proxy.forwarding.keys import KeyRing
from proxy.forwarding.links.addresses import AddressMap, Arrival
from proxy.forwarding.links.capability import LONGEST_S, Capabilities
from proxy.forwarding.links.members import Members, Names
from proxy.forwarding.routing import parse_target

SERVICES = load_catalog().services
SLACK = SERVICES["slack"]
NOW = 1_000_000.0
CAPABILITIES = Capabilities(b"secret of the instance")
MINT = CAPABILITIES.minting(SLACK, record("slack"), NOW)


def mapped(body: bytes, base: bytes = b"https://proxy.example", *, sockets: bool = True) -> bytes:
    addresses = AddressMap(SLACK, {}, Arrival(base, b"/slack", b"", frozenset(SERVICES)), MINT)
    reader = Members(Names(["url"], sockets=sockets), addresses)
    return reader.feed(body) + reader.flush()


@pytest.mark.parametrize(
    ("url", "becomes"),
    [
        (b"wss://slack.com/api/live?x=%2F", b"wss://proxy.example/slack/api/live?x=%2F"),
        (b"wss://files.slack.com/files-pri/a", b"wss://proxy.example/slack/~files/files-pri/a"),
        (b"wss:\\/\\/slack.com\\/api\\/live", b"wss:\\/\\/proxy.example\\/slack\\/api\\/live"),
        (b"\\u0077ss://slack.com/api/live", b"wss://proxy.example/slack/api/live"),
        (b"https://slack.com/api/x", b"https://proxy.example/slack/api/x"),
    ],
)
def test_addresses_on_the_services_hosts(url: bytes, becomes: bytes) -> None:
    """They stay addresses of WebSockets, with or without TLS as the caller came, and lead to the same host and path."""
    body = b'{"a":"wss://slack.com/api/x","url":"%b"}'
    assert mapped(body % url) == body % becomes
    plain = mapped(body % url, b"http://proxy.example")
    assert plain == body % becomes.replace(b"ss:", b"s:").replace(b"https:", b"http:")


@pytest.mark.parametrize(
    "url",
    [b"ws://slack.com/api/x", b"wss://slack.com:8443/x", b"wss://evil.example/x", b"wss:/slack.com/x", b"ws", b"wssx"],
)  # fmt: skip
def test_everything_else_stays(url: bytes) -> None:
    """Other hosts and ports, look-alikes, no TLS where the service has it, and where nobody declared them."""
    body = b'{"url":"%b"}' % url
    assert mapped(body) == body
    declared_for_http = b'{"url":"wss://slack.com/api/x"}'
    assert mapped(declared_for_http, sockets=False) == declared_for_http
    assert mapped(declared_for_http, b"") == declared_for_http  # a caller without a Host field


def test_an_address_may_be_cut_anywhere() -> None:
    """The pieces in which an answer comes make no difference."""
    body = b'{"url":"wss://slack.com/api/live","u\\u0072l" : "\\u0077s\\u0073://slack.com/x"}'
    whole = mapped(body)
    assert whole.count(b"wss://proxy.example/slack/") == 2
    for size in (1, 2, 3, 5):
        addresses = AddressMap(
            SLACK, {}, Arrival(b"https://proxy.example", b"/slack", b"", frozenset(SERVICES)), MINT
        )
        reader = Members(Names(["url"], sockets=True), addresses)
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        assert b"".join(map(reader.feed, pieces)) + reader.flush() == whole


def admitted(*permits: str, now: float = NOW) -> tuple[Admitted, KeyRing]:
    """A handshake at a presigned address."""
    body = mapped(b'{"url":"wss://files.slack.com/upload/v1/ABC?ticket=1"}')
    target = body.removeprefix(b'{"url":"wss://proxy.example').removesuffix(b'"}')
    assert b"/~~" in target
    keys = ring(record(*permits))
    judged = CAPABILITIES.judged(
        parse_target(target), b"GET", SLACK, keyring=keys, now=now, peer=None, websocket=True
    )
    fields = [(name.encode(), value.encode()) for name, value in OFFER]
    came = head("GET", target.decode(), *fields)
    assert came.websocket
    return Admitted(came, judged.route, judged.grant, None, None), keys


def test_a_presigned_one_ends_with_its_key_and_its_time() -> None:
    """An open WebSocket is judged as its handshake would be by now: the key's life, its permits, the address's end (R89)."""
    handshake, keys = admitted("slack")

    def over(keyring: KeyRing, now: float = NOW) -> RequestError | None:
        terms = Terms(Catalog(SERVICES), Source(), keyring)
        return why_over(handshake, terms, CAPABILITIES, now=now, peer="")

    assert over(keys) is None
    assert isinstance(over(ring()), InvalidKey)
    assert isinstance(over(ring(record("github"))), NotPermitted)
    assert isinstance(over(keys, NOW + LONGEST_S), NotPermitted)


def test_a_key_that_only_reads_opens_none() -> None:
    """What goes through a WebSocket can write, so a presigned address of one needs a key that may."""
    with pytest.raises(NotPermitted):
        admitted("slack:read-only")
