"""A scripted peer: plays the service behind the proxy, keeps every byte that reaches it.

A script is a coroutine function of one :class:`Peer`. The default, :func:`echo`, answers each request
with a JSON document of what arrived. ``upstream.script = ...`` replaces it for connections to come.
"""

import asyncio
import contextlib
import hashlib
import json
import socket
import ssl
import struct
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable

from support import strict

Script = Callable[["Peer"], Awaitable[None]]

HEAD_END = b"\r\n\r\n"


class Gone(Exception):  # noqa: N818  # the other side's choice, not an error
    """The connection ended while a script was waiting for bytes."""


class Peer(asyncio.Protocol):
    """One accepted connection: what came, and the means to answer well or badly."""

    def __init__(self, upstream: "Upstream") -> None:
        self._upstream = upstream
        self._news = asyncio.Event()
        self._at = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self.keep = upstream.keep
        self._era = upstream.era
        self.received = bytearray()
        self.count = 0
        self.digest = hashlib.sha256()
        self.requests: list[strict.Message] = []
        self.sni: str | None = None
        self.alpn: str | None = None
        self.tls_version: str | None = None
        self.ended = asyncio.Event()
        self.failure: BaseException | None = None

    @property
    def transport(self) -> asyncio.Transport:
        if self._transport is None:
            raise RuntimeError("not connected")
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._era != self._upstream.era:  # accepted for an earlier test, its handshake is only done now
            self.ended.set()
            transport.abort()
            return
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.sni = self._upstream.names.get(tls)
            self.alpn = tls.selected_alpn_protocol()
            self.tls_version = tls.version()
        self._upstream.peers.append(self)
        self._upstream.arrival.set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._upstream.script(self)
        except (Gone, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001  # shown by the test that looks at the peer
            self.failure = error
        finally:
            if not self._upstream.hold:
                self.transport.close()

    def data_received(self, data: bytes) -> None:
        self.count += len(data)
        if self.keep:
            self.received += data
        else:
            self.digest.update(data)
        self._news.set()

    def eof_received(self) -> bool:
        self.ended.set()
        self._news.set()
        return self._upstream.half_open

    def connection_lost(self, _: Exception | None) -> None:
        self.ended.set()
        self._news.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def more(self) -> None:
        """Waits for the next bytes.

        Raises:
            Gone: the connection ended.
        """
        if self.ended.is_set():
            raise Gone
        self._news.clear()
        await self._news.wait()

    async def head(self) -> bytes:
        """The next request's head, up to and with the blank line; what follows stays unread."""
        while (end := self.received.find(HEAD_END, self._at)) < 0:
            await self.more()
        head = bytes(self.received[self._at : end + len(HEAD_END)])
        self._at = end + len(HEAD_END)
        return head

    async def request(self) -> strict.Message:
        """The next whole request by the strict reading.

        Raises:
            strict.Dirty: the bytes are not one.
        """
        while True:
            reading = strict.requests(bytes(self.received[self._at :]))
            if reading.messages:
                first = reading.messages[0]
                self._at += first.size
                self.requests.append(first)
                return first
            if reading.dirty is not None:
                raise strict.Dirty(reading.dirty)
            await self.more()

    async def send(self, *parts: bytes) -> None:
        """Sends each part as a segment of its own, waiting while the other side does not read."""
        for part in parts:
            if self.transport.is_closing():
                raise Gone
            self.transport.write(part)
            await self._writable.wait()
            if len(parts) > 1:
                await asyncio.sleep(0)

    async def finish(self) -> None:
        """Closes in order: everything written arrives, with TLS a close_notify too."""
        self.transport.close()

    def cut(self) -> None:
        """Ends TCP (FIN) without a TLS close_notify; the kernel still sends what it has taken."""
        raw = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Ends TCP with RST."""
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def stop_reading(self) -> None:
        """Takes no more bytes from the kernel until :meth:`go_on_reading`."""
        self.transport.pause_reading()

    def go_on_reading(self) -> None:
        self.transport.resume_reading()


class Upstream:
    """A listening socket on loopback whose connections run a script."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._server: asyncio.Server | None = None
        self.names: weakref.WeakKeyDictionary[ssl.SSLObject, str | None] = weakref.WeakKeyDictionary()
        self.peers: list[Peer] = []
        self.arrival = asyncio.Event()
        self.script: Script = echo
        self.hold = False
        self.half_open = False  # the end of the other side is not the end of ours
        self.keep = True
        self.era = 0
        self.port = 0
        if tls is not None:
            tls.sni_callback = self._heard

    def _heard(self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        if isinstance(tls, ssl.SSLObject):
            self.names[tls] = name

    @property
    def address(self) -> str:
        """host:port as a configuration wants it."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Peer(self), "127.0.0.1", self.port, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stops listening and cuts what is open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self.drop()

    async def drop(self) -> None:
        """Cuts every open connection."""
        for peer in self.peers:
            if peer._task is not None:
                peer._task.cancel()
            if peer._transport is not None:
                peer._transport.abort()
        await asyncio.sleep(0)
        await asyncio.gather(*(p._task for p in self.peers if p._task is not None), return_exceptions=True)

    async def fresh(self, script: Script | None = None) -> None:
        """Forgets what came, cuts what is open, and plays ``script`` (default: echo) from now on."""
        await self.drop()
        self.era += 1
        self.peers.clear()
        self.arrival.clear()
        self.script = script or echo
        self.hold = False
        self.keep = True

    async def peer(self, number: int = 0) -> Peer:
        """The connection of that number, once it is there."""
        while len(self.peers) <= number:
            self.arrival.clear()
            await self.arrival.wait()
        return self.peers[number]

    def readings(self) -> list[strict.Reading]:
        """The oracle's reading of every connection's bytes."""
        return [strict.requests(bytes(peer.received)) for peer in self.peers]

    def dirt(self) -> list[str]:
        """Why the oracle objects, one text a connection. A body may be cut (its sender gave up); a head may not."""
        found: list[str] = []
        for reading in self.readings():
            if reading.dirty is not None:
                found.append(reading.dirty)
            elif reading.rest and reading.partial is None:
                found.append(f"half a head: {reading.rest[:60]!r}")
        return found

    def seen(self) -> list[strict.Message]:
        """Every whole request that came, on any connection, in order of connections."""
        return [message for reading in self.readings() for message in reading.messages]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Upstream"]:
        """Listens inside the block."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()


def answer(
    status: int = 200,
    body: bytes = b"",
    *fields: tuple[bytes, bytes],
    reason: bytes = b"OK",
    length: bool = True,
) -> bytes:
    """A well-formed answer with Content-Length."""
    head = [b"HTTP/1.1 %d %s" % (status, reason), *(b"%s: %s" % f for f in fields)]
    if length:
        head.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*head, b"", body])


def chunk(data: bytes) -> bytes:
    """One chunk in canonical form; of nothing, the last one."""
    return b"%x\r\n%s\r\n" % (len(data), data)


async def echo(peer: Peer) -> None:
    """Answers each request with a JSON document of what arrived, for as long as the other side goes on."""
    while True:
        request = await peer.request()
        document = {
            "method": request.method.decode("latin-1"),
            "target": request.target.decode("latin-1"),
            "fields": [[n.decode("latin-1"), v.decode("latin-1")] for n, v in request.fields],
            "body": request.body[:4096].decode("latin-1"),
            "length": len(request.body),
            "sha256": hashlib.sha256(request.body).hexdigest(),
            "framing": request.framing,
            "sni": peer.sni,
        }
        body = json.dumps(document).encode()
        if request.method == b"HEAD":
            await peer.send(
                answer(
                    200,
                    b"",
                    (b"Content-Type", b"application/json"),
                    (b"Content-Length", b"%d" % len(body)),
                    length=False,
                )
            )
            continue
        await peer.send(answer(200, body, (b"Content-Type", b"application/json")))


def replying(*parts: bytes, then: str = "keep") -> Script:
    """Each whole request is answered with these segments; ``then``: keep, finish, cut or reset."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(*parts)
            if then == "finish":
                return
            if then == "cut":
                peer.cut()
                await peer.ended.wait()
                return
            if then == "reset":
                peer.reset()
                return

    return script


def one_after_another(*scripts: Script) -> Script:
    """The first connection plays the first script, and so on; the last one is played for all the rest."""
    left = list(scripts)

    async def script(peer: Peer) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(peer)

    return script


async def silent(peer: Peer) -> None:
    """Reads and never answers."""
    while True:
        await peer.more()
