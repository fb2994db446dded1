"""The operating system's resolver, whose questions take as long as they like."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.catalog.origin import parse_origin
from proxy.errors import UpstreamUnreachable
from proxy.forwarding import egress, resolving
from proxy.forwarding.addresses import Dial
from proxy.forwarding.egress import Dialer, EgressPolicy
from proxy.forwarding.known import ADDRESS_TTL_S
from proxy.forwarding.resolving import THREADS, SystemResolver

DEAD, GOOD = parse_origin("https://dead.example"), parse_origin("https://good.example")


class System:
    """What the operating system does: names that begin with ``dead`` are answered when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = threading.Event()

    def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        if host.startswith("dead"):
            assert self.answers.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("1.2.3.4", port))]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    """The resolver of a machine some of whose names nobody answers for."""
    made = System()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    yield made
    made.answers.set()


async def test_the_systems_resolver_knows_localhost() -> None:
    """The resolver of production gives textual addresses."""
    assert {"127.0.0.1", "::1"} & set(await SystemResolver()("localhost", 80))


async def test_names_that_nobody_answers_for_hold_up_no_other(system: System) -> None:
    """Forty services whose DNS is dead take nothing from one whose DNS is well (R57)."""
    one = Dialer(EgressPolicy(), lambda: 0.0)
    stuck = [
        asyncio.create_task(one.addresses(parse_origin(f"https://dead{number}.example")))
        for number in range(40)
    ]
    async with asyncio.timeout(30):
        while len(system.asked) < len(stuck):  # noqa: ASYNC110  # threads of the operating system tell nobody
            await asyncio.sleep(0.001)
        assert await one.addresses(GOOD) == (Dial("1.2.3.4", 443),)
        system.answers.set()
        ends = await asyncio.gather(*stuck, return_exceptions=True)
    assert {type(end) for end in ends} == {UpstreamUnreachable}


async def test_a_question_is_not_asked_again_while_it_is_open(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each caller waits a bounded time, and for one and the same question, which costs one thread (R57, R162)."""
    monkeypatch.setattr(egress, "RESOLVE_TIMEOUT_S", 0.01)
    now = 0.0
    one = Dialer(EgressPolicy(), lambda: now)
    for _ in range(5):
        with pytest.raises(UpstreamUnreachable):
            await one.addresses(DEAD)
        now += 60
    assert system.asked == ["dead.example"]


async def test_an_answer_that_comes_late_is_for_who_asked_meanwhile(system: System) -> None:
    """Those who ask while a question is open get its answer; the next question is a new one."""
    resolver = SystemResolver()
    asking = [asyncio.create_task(resolver("dead.example", 443)) for _ in range(3)]
    await asyncio.sleep(0)
    asking[0].cancel()
    system.answers.set()
    ends = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError, socket.gaierror, socket.gaierror]
    assert system.asked == ["dead.example"]
    with pytest.raises(socket.gaierror):
        await resolver("dead.example", 443)
    assert system.asked == ["dead.example"] * 2


async def test_questions_at_once_are_bounded(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """More names than may be asked for wait for their turn, and who gives up waiting takes none (R162)."""
    assert THREADS == 64
    monkeypatch.setattr(resolving, "THREADS", 2)
    resolver = SystemResolver()
    asking = [asyncio.create_task(resolver(f"dead{number}", 443)) for number in range(4)]
    good = asyncio.create_task(resolver("good", 443))
    async with asyncio.timeout(30):
        while len(system.asked) < 2:  # noqa: ASYNC110  # threads of the operating system tell nobody
            await asyncio.sleep(0.001)
        asking[3].cancel()
        await asyncio.sleep(0.05)
        assert system.asked == ["dead0", "dead1"]
        system.answers.set()
        assert await good == ["1.2.3.4"]
        await asyncio.gather(*asking, return_exceptions=True)
    assert sorted(system.asked) == ["dead0", "dead1", "dead2", "good"]


async def test_a_system_without_threads_left_fails_as_one_without_answers(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a limit on threads a name that was known goes on being served, and others are told as unreachable (R46)."""
    now = 0.0
    one = Dialer(EgressPolicy(), lambda: now)
    before = await one.addresses(GOOD)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    now = ADDRESS_TTL_S
    assert await one.addresses(GOOD) == before
    with pytest.raises(UpstreamUnreachable):
        await one.addresses(DEAD)
    assert system.asked == ["good.example"]
