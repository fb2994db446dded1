"""WebSocket handshakes as bytes, and services that take them."""

from collections.abc import Awaitable, Callable

from support import raw
from support.upstream import Peer, Script

NONCE = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 §1.3: what answers that nonce
OFFER = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", NONCE.decode()),
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n"
)
Fields = tuple[tuple[str, str], ...]


def handshake(target: str, key: str | None, more: Fields = (), offer: Fields = OFFER) -> bytes:
    """A handshake; ``offer`` replaces its usual fields."""
    return raw.request("GET", target, key=key, fields=(*offer, *more))


def switching(then: Callable[[Peer], Awaitable[None]], more: bytes = b"", behind: bytes = b"") -> Script:
    """A service that answers 101 (``more``: further fields; ``behind``: bytes in the same piece), then ``then``."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(SWITCH + more + b"\r\n" + behind)
        await then(peer)

    return script


async def taken(peer: Peer, number: int) -> bytes:
    """The next ``number`` bytes behind the handshake, or what was read last."""
    while len(peer.received) < peer._at + number:
        await peer.more()
    at, peer._at = peer._at, peer._at + number
    return bytes(peer.received[at : at + number])


async def mirror(peer: Peer) -> None:
    """Sends back every byte."""
    while True:
        if len(peer.received) == peer._at:
            await peer.more()
        at, peer._at = peer._at, len(peer.received)
        await peer.send(bytes(peer.received[at:]))


async def quiet(peer: Peer) -> None:
    """Says nothing, until the other side ends."""
    await peer.ended.wait()
