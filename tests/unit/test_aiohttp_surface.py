"""What the data path uses of aiohttp beyond its documentation, pinned: raising aiohttp starts by making this pass.

The names are held against `proxy/forwarding/` itself, so that nothing is used that is not listed here.
"""

import ast
import asyncio
import inspect
import re
import tomllib
from pathlib import Path
from types import MemberDescriptorType

import aiohttp
import pytest
from aiohttp import web_protocol
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from proxy.forwarding import server

ROOT = Path(__file__).parents[2]
SLOT = "an attribute"

HANDLER = {
    "_buffer_paused": SLOT,
    "_close": SLOT,
    "_drain_helper": "() -> None",
    "_force_close": SLOT,
    "_loop": SLOT,
    "_max_msg_queue_size": SLOT,
    "_messages": SLOT,
    "_msg_queue_resume_size": SLOT,
    "_parser": SLOT,
    "_pause_reading_for_buffer": "() -> None",
    "_paused": SLOT,
    "_reading_paused": SLOT,
    "_request_count": SLOT,
    "_resume_reading_if_drained": "() -> None",
    "_resume_transport_reading": "() -> None",
    "_task_handler": SLOT,
    "_waiter": SLOT,
    "connection_lost": "(exc: BaseException | None) -> None",
    "connection_made": "(transport: asyncio.transports.BaseTransport) -> None",
    "data_received": "(data: bytes) -> None",
    "eof_received": "() -> None",
    "force_close": "() -> None",
    "pause_writing": "() -> None",
    "resume_writing": "() -> None",
    "start": "() -> None",
    "transport": SLOT,
    "writing_paused": "property",
}
SERVER = {"connections"}
HANDLER_OPTIONS = {
    "loop",
    "keepalive_timeout",
    "access_log",
    "auto_decompress",
    "max_line_size",
    "max_field_size",
    "max_headers",
    "lingering_time",
}
MESSAGE_FIELDS = {
    "method",
    "path",
    "version",
    "headers",
    "raw_headers",
    "should_close",
    "compression",
    "upgrade",
    "chunked",
    "url",
}


def describe(owner: type, name: str) -> str:
    """How a class has a name: as a slot, a property or a method of this signature."""
    value = inspect.getattr_static(owner, name)
    if isinstance(value, MemberDescriptorType):
        return SLOT
    if isinstance(value, property):
        return "property"
    return re.sub(r"\(self(, )?", "(", str(inspect.signature(value)))


def used(owner: type) -> set[str]:
    """Names of an aiohttp class that the data path reads, calls or overrides on the server or one of its connections."""
    names: set[str] = set()
    for path in Path(server.__file__).parent.glob("*.py"):
        own = (
            {"self", "connection", "c", "caller"}
            if path.stem in {"caller", "receiving", "server"}
            else {"caller"}
        )
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Attribute(value=ast.Name(id=holder), attr=name) if holder in own:
                    names.add(name)
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if "self" in own:
                    names.add(name)
                case _:
                    pass
    theirs = {name for base in owner.__mro__ if base.__module__.startswith("aiohttp.") for name in vars(base)}
    return {name for name in names & theirs if not (name.startswith("__") and name.endswith("__"))}


class Recording(RequestHandler):
    """aiohttp's handler with a loop that only records what the parser hands over, as ours replaces it."""

    __slots__ = ("ended", "paused_at", "seen", "served", "stop_at")

    def __init__(self, manager: Server, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(manager, loop=loop, keepalive_timeout=0, auto_decompress=False, lingering_time=0)
        self.seen: list[tuple[RawRequestMessage, StreamReader]] = []
        self.served = asyncio.Event()
        self.ended: asyncio.Future[str] = loop.create_future()
        self.paused_at = 0
        self.stop_at = 1

    async def start(self) -> None:
        try:
            while True:
                while not self._messages:
                    self._waiter = self._loop.create_future()
                    await self._waiter
                self.paused_at = self.paused_at or (len(self._messages) if self._buffer_paused else 0)
                self.seen.append(self._messages.popleft())
                self._parser.message_consumed()
                if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
                    self._resume_reading_if_drained()
                if len(self.seen) >= self.stop_at:
                    self.served.set()
        except asyncio.CancelledError:
            self.ended.set_result("cancelled")
            raise


async def unused(_: object) -> object:
    raise AssertionError("a handler with its own loop asks for no answer")


async def serve(data: bytes, *, requests: int) -> Recording:
    """What a handler has seen after a caller sent some bytes over a real connection, and left."""
    loop = asyncio.get_running_loop()
    manager = Server(unused, handler_cancellation=True)
    made: list[Recording] = []

    def factory() -> Recording:
        made.append(Recording(manager, loop=loop))
        made[0].stop_at = requests
        return made[0]

    listening = await loop.create_server(factory, "127.0.0.1", 0)
    try:
        _, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        writer.write(data)
        while not made:
            await writer.drain()
            await asyncio.sleep(0)
        await asyncio.wait_for(made[0].served.wait(), 10)
        assert list(manager.connections) == made
        writer.close()
        await asyncio.wait_for(made[0].ended, 10)
    finally:
        listening.close()
    return made[0]


def test_the_version_is_the_pinned_one() -> None:
    """The version is pinned exactly, and what runs is what was pinned (R159)."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "dependencies"
    ]
    assert f"aiohttp=={aiohttp.__version__}" in dependencies


def test_what_is_listed_is_what_is_used() -> None:
    """The lists of this file are complete and current: the data path touches these names of aiohttp's and no other."""
    assert used(RequestHandler) | used(Server) == HANDLER.keys() | SERVER


@pytest.mark.parametrize("name", sorted(HANDLER))
def test_the_handler_has_what_is_used(name: str) -> None:
    """Each attribute is still one and each method still takes what we give it."""
    assert describe(RequestHandler, name) == HANDLER[name]


def test_the_constructors_take_our_options() -> None:
    """Every limit we set is still an option of aiohttp's (R22), and handlers can still be cancelled (R58)."""
    assert set(inspect.signature(RequestHandler.__init__).parameters) >= HANDLER_OPTIONS
    assert "handler_cancellation" in inspect.signature(Server.__init__).parameters


def test_requests_are_parsed_in_c() -> None:
    """The parser and its messages are the C ones; our check for that would notice the others (R159)."""
    server.require_c_parser()
    assert web_protocol.HttpRequestParser.__module__ == "aiohttp._http_parser"
    assert RawRequestMessage.__module__ == "aiohttp._http_parser"
    assert set(dir(RawRequestMessage)) >= MESSAGE_FIELDS
    assert issubclass(LineTooLong, BadHttpMessage)


def test_the_control_plane_can_answer_bad_requests_itself() -> None:
    """The page for a bad request, which quotes it, is still made by the method that we replace (R156)."""
    parameters = inspect.signature(RequestHandler.handle_error).parameters
    assert list(parameters) == ["self", "request", "status", "exc", "message"]
    assert describe(RequestHandler, "_current_request") == describe(RequestHandler, "_request_count") == SLOT


async def test_a_parser_can_be_had_beside_the_connection() -> None:
    """A second C parser, without a connection of its own, reads a message that stands before a malformed one (R18)."""
    protocol = BaseProtocol(asyncio.get_running_loop())
    parser = web_protocol.HttpRequestParser(
        protocol,
        asyncio.get_running_loop(),
        256,
        max_line_size=256,
        max_field_size=256,
        max_headers=8,
        auto_decompress=False,
    )
    ((message, payload),), _, _ = parser.feed_data(b"GET /only HTTP/1.1\r\nHost: h\r\n\r\n")
    assert message.path == "/only"
    assert payload is EMPTY_PAYLOAD


async def test_a_message_keeps_raw_bytes() -> None:
    """Target and fields are as they came: order, case, repetition, encoded bytes and bytes beyond ASCII."""
    handler = await serve(
        b"GET /a%2Fb/../c?x=%zz&y HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: \xe9\r\nX-A:  \t3 \r\n\r\n",
        requests=1,
    )
    message, payload = handler.seen[0]
    assert isinstance(message, RawRequestMessage)
    assert message.path == "/a%2Fb/../c?x=%zz&y"
    assert list(message.raw_headers) == [(b"Host", b"h"), (b"X-A", b"1"), (b"x-a", b"\xe9"), (b"X-A", b"3")]
    assert payload is EMPTY_PAYLOAD
    assert payload.is_eof()


async def test_a_body_is_a_stream_of_its_own() -> None:
    """A body arrives in a StreamReader that knows its end; what follows it is the next message."""
    handler = await serve(
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\n\r\n",
        requests=2,
    )
    (first, body), (second, _) = handler.seen
    assert isinstance(body, StreamReader)
    assert body is not EMPTY_PAYLOAD
    assert first.chunked
    assert body.read_nowait(-1) == b"abc"
    assert body.is_eof()
    assert second.path == "/next"


async def test_a_caller_that_leaves_cancels_its_task() -> None:
    """`start` runs as a task of the connection and is cancelled when the caller leaves (R58)."""
    handler = await serve(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", requests=1)
    assert handler.ended.result() == "cancelled"
    assert handler.transport is None
    assert handler._task_handler is None


async def test_pipelined_requests_wait_in_a_bounded_queue() -> None:
    """However many requests come at once, a bounded number is parsed ahead, reading pauses, and none is lost (R17)."""
    asked = 200
    data = b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(asked))
    handler = await serve(data, requests=asked)
    assert [message.path for message, _ in handler.seen] == [f"/{number}" for number in range(asked)]
    assert 0 < handler.paused_at <= handler._max_msg_queue_size


async def test_a_malformed_message_raises_out_of_the_parser() -> None:
    """`feed_data` raises for a bad message and gives (messages, upgraded, tail) for good ones."""
    loop = asyncio.get_running_loop()
    parser = Recording(Server(unused), loop=loop)._parser
    messages, upgraded, tail = parser.feed_data(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (len(messages), upgraded, tail) == (1, False, b"")
    with pytest.raises(BadHttpMessage):
        parser.feed_data(b"GET / HTTP/1.1\r\nHost : h\r\n\r\n")
