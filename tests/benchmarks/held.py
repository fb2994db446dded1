"""Both ends of the in-flight measurement, each its own process; they know nothing of the proxy between them.

    python held.py upstream N PLAIN_PORT TLS_PORT SERVER_PEM
    python held.py callers N HOST PORT TARGET KEY

The upstream answers a request for ``.../held`` one second after it arrived, but not before all N have arrived (or 90 s
have passed), so that N really are in flight at once. Callers connect 200 at a time, then send all at once and
print one JSON object: ``{"ok", "errors": {what: count}, "seconds"}``.
"""

import asyncio
import json
import re
import resource
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable

import uvloop

_HOLD_S, _PATIENCE_S, _CALLERS_PATIENCE_S, _CONNECTING_AT_ONCE = 1.0, 90.0, 150.0, 200
_BODY = json.dumps({"object": "list", "pad": "x" * 994}).encode()
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_BODY),
    _BODY,
)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)", re.IGNORECASE)


class Gate:
    """Collects the requests of one listener and answers them together; what comes later waits for itself only."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._waiting: list[asyncio.Transport] = []
        self._opened = False

    def arrive(self, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_later(_HOLD_S if self._opened else _PATIENCE_S, self._release)
        self._waiting.append(transport)
        if len(self._waiting) == self._wanted:
            loop.call_later(_HOLD_S, self._release)

    def _release(self) -> None:
        waiting, self._waiting, self._opened = self._waiting, [], True
        for transport in waiting:
            if not transport.is_closing():
                transport.write(_ANSWER)


class HeldAnswer(asyncio.Protocol):
    """One connection of the upstream: requests without bodies, one at a time."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            if b"/held HTTP/1.1\r\n" in head:
                self._gate.arrive(self._transport)
            else:
                self._transport.write(_ANSWER)


class Caller(asyncio.Protocol):
    """One caller: sends when told, and says how it ended: ``ok``, a status, or how it was cut."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._received = b""
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self) -> None:
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        length = _LENGTH.search(head)
        if length is None:
            self._end("no Content-Length")
        elif len(body) >= int(length[1]):
            self._end("ok" if head.startswith(b"HTTP/1.1 200 ") and body == _BODY else head[:12].decode())

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"cut: {type(exc).__name__}" if exc else "closed without an answer")

    def _end(self, outcome: str) -> None:
        if not self.outcome.done():
            self.outcome.set_result(outcome)


async def upstream(wanted: int, plain_port: int, tls_port: int, server_file: str) -> None:
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_file)

    def factory() -> Callable[[], HeldAnswer]:
        gate = Gate(wanted)
        return lambda: HeldAnswer(gate)

    await loop.create_server(factory(), "127.0.0.1", plain_port, backlog=4096)
    await loop.create_server(
        factory(), "127.0.0.1", tls_port, backlog=4096, ssl=context, ssl_handshake_timeout=90
    )
    await asyncio.Event().wait()


async def callers(count: int, host: str, port: int, target: str, key: str) -> None:
    loop = asyncio.get_running_loop()
    request = f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    errors: Counter[str] = Counter()
    turn = asyncio.Semaphore(_CONNECTING_AT_ONCE)

    async def connect() -> Caller | None:
        async with turn:
            try:
                _, caller = await loop.create_connection(lambda: Caller(request), host, port)
            except OSError as error:
                errors[f"connect: {type(error).__name__}"] += 1
                return None
            return caller

    connected = [caller for caller in await asyncio.gather(*(connect() for _ in range(count))) if caller]
    started = time.monotonic()
    for caller in connected:
        caller.send()
    outcomes = [caller.outcome for caller in connected]
    done, late = await asyncio.wait(outcomes, timeout=_CALLERS_PATIENCE_S)
    errors.update(future.result() for future in done)
    errors["no answer"] += len(late)
    seconds = round(time.monotonic() - started, 2)
    print(json.dumps({"ok": errors.pop("ok", 0), "errors": dict(+errors), "seconds": seconds}))


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    role, number, *rest = sys.argv[1:]
    if role == "upstream":
        uvloop.run(upstream(int(number), int(rest[0]), int(rest[1]), rest[2]))
    else:
        uvloop.run(callers(int(number), rest[0], int(rest[1]), rest[2], rest[3]))
