"""Connections to services through the operator's HTTP proxy: CONNECT, then TLS inside (RFC 9110 §9.3.6).

The proxy sees names and ports, never what is said: certificates are verified as on a direct connection.
"""

import asyncio
import binascii
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeVar
from urllib.parse import unquote_to_bytes

from proxy.catalog.origin import Origin, parse_origin
from proxy.errors import UpstreamUnreachable
from proxy.forwarding.addresses import hostport
from proxy.secret import Secret

MAX_HEAD_BYTES = 16_384
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_AUTHENTICATE = 407

_Made = TypeVar("_Made", bound=asyncio.Protocol)


@dataclass(frozen=True, slots=True)
class EgressProxy:
    """An HTTP proxy; ``credentials`` is ``user:password``."""

    host: str
    port: int
    credentials: Secret | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``http://[user:password@]host[:port]``, user and password percent-encoded where need be.

        Raises:
            ValueError: anything else; the text is not repeated, as it may hold the password.
        """
        scheme, mark, rest = text.partition("://")
        user, at, place = rest.rpartition("@")
        try:
            if scheme.lower() != "http" or not mark or (at and ":" not in user) or not user.isascii():
                raise ValueError  # noqa: TRY301  # one message for all of it
            origin = parse_origin(f"http://{place}")
            secret = unquote_to_bytes(user).decode()
        except ValueError:
            raise ValueError("must be http://host:port or http://user:password@host:port") from None
        return cls(origin.host, origin.port, Secret(secret) if at else None)

    def request(self, origin: Origin) -> bytes:
        """The head of the CONNECT for an origin."""
        target = hostport(origin.host, origin.port).encode()
        lines = [b"CONNECT %b HTTP/1.1" % target, b"Host: " + target]
        if self.credentials is not None:
            basic = binascii.b2a_base64(self.credentials.reveal().encode(), newline=False)
            lines.append(b"Proxy-Authorization: Basic " + basic)
        return b"\r\n".join([*lines, b"", b""])


class _Handshake(asyncio.Protocol):
    """Sends the CONNECT and waits for the end of its answer's head."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._head = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The proxy has accepted the connection."""
        transport.write(self._request)  # type: ignore[attr-defined]  # a TCP transport

    def data_received(self, data: bytes) -> None:
        """A piece of the answer's head; nothing may follow it before TLS begins."""
        if self.done.done():
            return
        self._head += data
        head, end, behind = self._head.partition(b"\r\n\r\n")
        if not end and len(head) <= MAX_HEAD_BYTES:
            return
        found = _STATUS.match(head + b"\r")
        status = 0 if found is None else int(found.group(1))
        if not end or not status or behind:
            self._fail("the egress proxy's answer is not well-formed")
        elif status == _AUTHENTICATE:
            self._fail("the egress proxy refused its credentials")
        elif not 200 <= status < 300:  # noqa: PLR2004  # RFC 9110 §9.3.6: any 2xx
            self._fail(f"the egress proxy did not connect to the service ({status})")
        else:
            self.done.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        """The proxy has closed the connection."""
        if not self.done.done():
            self._fail("the egress proxy closed the connection")

    def _fail(self, detail: str) -> None:
        self.done.set_exception(UpstreamUnreachable(detail))


async def open_tunnel(
    proxy: EgressProxy,
    sock: socket.socket,
    origin: Origin,
    context: ssl.SSLContext,
    make: Callable[[], _Made],
) -> _Made:
    """A verified TLS connection to an origin, through a proxy.

    Args:
        proxy: asked to connect.
        sock: connected to it; ours from now on.
        origin: https.
        context: for TLS with the service.
        make: makes the connection's protocol.

    Raises:
        UpstreamUnreachable: the proxy did not connect. ssl.SSLError: TLS failed. OSError: the rest.
    """
    loop = asyncio.get_running_loop()
    transport, handshake = await loop.create_connection(lambda: _Handshake(proxy.request(origin)), sock=sock)
    try:
        await handshake.done
        made = make()
        tls = await loop.start_tls(transport, made, context, server_hostname=origin.host)
    except BaseException:
        transport.abort()
        raise
    if tls is None or tls.is_closing():
        raise ConnectionResetError("closed while it was being opened")
    made.connection_made(tls)
    return made
