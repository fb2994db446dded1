"""Which of several addresses is connected to, over real sockets, on the loop of asyncio and that of production."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop
from support.silence import silent

from proxy.forwarding import racing
from proxy.forwarding.addresses import Dial
from proxy.forwarding.racing import connect_first, open_first

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]
NEVER_S = 3600.0


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run[Any]]:
    """Runs a coroutine to its end, after which no more files are open than before."""
    with asyncio.Runner(loop_factory=request.param) as runner:
        runner.run(asyncio.sleep(0))  # the loop has its own files from now on
        before = files()

        async def bounded(work: Awaitable[T]) -> T:
            async with asyncio.timeout(30):
                return await work

        yield lambda work: runner.run(bounded(work))
        runner.run(asyncio.sleep(0))
        assert files() == before


@pytest.fixture
def served() -> Iterator[Dial]:
    """An address that accepts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Dial(*server.getsockname())


def files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def won(*dials: Dial) -> Dial:
    """Where the connection went."""
    dial, sock = await connect_first(dials)
    with sock:
        assert sock.getpeername() == dial
    return dial


def test_an_address_that_says_nothing_does_not_hide_the_next(run: Run[Dial], served: Dial) -> None:
    """After a moment of silence the next address is tried beside it; the attempt that lost is closed (R57, R79)."""
    with silent("127.0.0.2") as port:
        assert run(won(Dial("127.0.0.2", port), served)) == served


def test_after_a_refusal_nobody_waits(run: Run[Dial], served: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that refuses is followed by the next at once (R79)."""
    monkeypatch.setattr(racing, "ATTEMPT_DELAY_S", NEVER_S)
    refused = Dial("127.0.0.3", served.port)
    assert run(won(refused, served)) == served


def test_the_first_address_that_answers_is_the_only_one_tried(run: Run[Any], served: Dial) -> None:
    """The usual connection costs no task, and the addresses behind the good one are left alone."""

    async def work() -> list[str]:
        made: list[str] = []
        loop = asyncio.get_running_loop()

        def factory(loop: asyncio.AbstractEventLoop, work: Any, **how: Any) -> asyncio.Task[Any]:
            made.append(work.__name__)
            return asyncio.Task(work, loop=loop, **how)

        loop.set_task_factory(factory)
        with socket.create_server(("127.0.0.2", 0)) as second:
            second.setblocking(False)
            assert await won(served, Dial(*second.getsockname())) == served
            with pytest.raises(BlockingIOError):
                second.accept()
        return made

    assert run(work()) == []


def test_when_none_accepts_the_last_refusal_is_told(run: Run[Dial]) -> None:
    """Where nobody listens, and where no way leads, the error says so; nothing waits for the clock."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            run(won(Dial("255.255.255.255", 9), Dial(*held.getsockname())))


def test_who_leaves_leaves_nothing_behind(run: Run[None]) -> None:
    """A timeout of the caller's closes the attempts under way (R162)."""

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.4):
                await connect_first((Dial("127.0.0.2", port), Dial("127.0.0.3", other)))

    with silent("127.0.0.2") as port, silent("127.0.0.3") as other:
        before = files()
        run(work())
        assert files() == before


def test_an_address_that_breaks_afterwards_is_followed_by_the_others(run: Run[Dial], served: Dial) -> None:
    """What accepts and then breaks, before it is of use, is tried once; then the rest (R79)."""
    tried: list[Dial] = []

    async def open_on(dial: Dial, sock: socket.socket) -> Dial:
        sock.close()
        tried.append(dial)
        if dial.ip == "127.0.0.2":
            raise ConnectionResetError
        return dial

    with socket.create_server(("127.0.0.2", 0)) as breaking:
        first = Dial(*breaking.getsockname())
        assert run(open_first((first, served), open_on)) == served
        assert tried == [first, served]
        with pytest.raises(ConnectionResetError):
            run(open_first((first,), open_on))
