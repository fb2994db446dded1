"""Plays hostile cases against a listening proxy and lists what was wrong."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from hostile import Answer, Case, concrete
from support import strict
from support.raw import DEADLINE, Address, Caller, Hang, calling, request
from support.upstream import Peer, Script, Upstream

WIDTH = 32  # at once; more, and a crowded machine sends heads later than they may come
CLOSING_STATUSES = frozenset({200, *range(400, 600)}) - {500}


@dataclass(slots=True)
class Tally:
    """What a run showed. ``faults`` has one line a finding: the case's name, then what was wrong."""

    cases: int = 0
    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        return f"{self.cases} cases in {self.seconds:.1f} s ({statuses}), {len(self.faults)} faults"

    def verdict(self, limit: int = 40) -> str:
        """The first findings, for an assertion's message."""
        return "\n".join([str(self), *self.faults[:limit]])


async def play_requests(
    address: Address,
    key: str,
    prefix: str,
    upstream: Upstream,
    cases: Sequence[Case],
    *,
    patience: float = DEADLINE,
) -> Tally:
    """Each case on a connection of its own, many at a time; then everything that reached the upstream is judged.

    ``prefix`` is the path under which the proxy serves ``upstream``. A sentinel request follows every answer
    that leaves the connection open: it has to be answered as itself. ``patience``: seconds of silence that
    are a hang.
    """
    tally = Tally(len(cases))
    gate = asyncio.Semaphore(WIDTH)
    begin = time.monotonic()

    async def one(number: int, case: Case) -> None:
        async with gate:
            data = concrete(case, key, f"{prefix}/c/{number}")
            sentinel = request("GET", f"{prefix}/sentinel/{number}", key=key, close=True)
            tally.faults.extend(
                f"{case.name}: {fault}"
                for fault in await _play(address, case, data, sentinel, tally, patience)
            )

    await asyncio.gather(*(one(number, case) for number, case in enumerate(cases)))
    tally.seconds = time.monotonic() - begin
    tally.faults.extend(f"upstream: {why}" for why in upstream.dirt())
    for message in upstream.seen():
        if b"SMUG" in message.target:
            tally.faults.append(f"upstream: second request served: {message.target[:60]!r}")
        hit = re.match(rb"/c/(\d+)", message.target)
        if hit and cases[int(hit.group(1))].expect == "refuse":
            tally.faults.append(f"{cases[int(hit.group(1))].name}: reached the upstream whole")
    return tally


async def _play(  # noqa: PLR0917  # a step of play_requests, with all that it has
    address: Address, case: Case, data: bytes, sentinel: bytes, tally: Tally, patience: float
) -> list[str]:
    async with calling(address) as caller:
        sending = asyncio.create_task(caller.send(data))
        sent_sentinel = False
        faults: list[str] = []
        try:
            while await caller.more(patience):
                if not sent_sentinel and _answered_and_open(caller):
                    sent_sentinel = True
                    await sending
                    await caller.send(sentinel)
        except Hang:
            faults.append(f"hangs: {bytes(caller.received[:60])!r}")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    reading = strict.responses(bytes(caller.received), [b"POST"] * (1 + sent_sentinel), closed=True)
    if reading.dirty:
        faults.append(f"dirty to the caller: {reading.dirty}")
    statuses = [message.status for message in reading.messages]
    tally.statuses[str(statuses[0]) if statuses else f"({caller.ended})"] += 1
    if 500 in statuses:
        faults.append("status 500")
    if case.expect == "pass" and statuses[:1] != [200]:
        faults.append(f"must pass, got {statuses} {bytes(caller.received[:400])!r}")
    if case.expect == "refuse" and statuses and statuses[0] < 400:
        faults.append(f"must be refused, got {statuses}")
    if sent_sentinel and case.whole and len(statuses) == 2 and statuses[1] != 200:
        faults.append(f"the next request on the connection got {statuses[1]}")
    return faults


def _answered_and_open(caller: Caller) -> bool:
    reading = strict.responses(bytes(caller.received), [b"POST"], closed=False)
    if not reading.messages:
        return False
    last = reading.messages[0]
    options = b",".join(last.values("connection")).lower()
    return b"close" not in options and not (last.start[0] == b"HTTP/1.0" and b"keep-alive" not in options)


def answering(cases: Sequence[Answer]) -> Script:
    """An upstream that gives the request for ``/a/N`` the answer number N, and anything else a plain one."""

    async def script(peer: Peer) -> None:
        while True:
            message = await peer.request()
            hit = re.match(rb"/a/(\d+)", message.target)
            if hit is None:
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsentinel")
                continue
            case = cases[int(hit.group(1))]
            await peer.send(*case.parts)
            if case.then == "cut":
                peer.cut()
                await peer.ended.wait()
                return
            if case.then == "reset":
                peer.reset()
                return
            if case.then == "finish":
                return

    return script


async def play_answers(
    address: Address,
    key: str,
    prefix: str,
    upstream: Upstream,
    cases: Sequence[Answer],
    *,
    patience: float = DEADLINE,
) -> Tally:
    """Asks for every answer once, on a connection of its own, and judges what the caller got."""
    tally = Tally(len(cases))
    gate = asyncio.Semaphore(WIDTH)
    begin = time.monotonic()

    async def one(number: int, case: Answer) -> None:
        async with gate, calling(address) as caller:
            await caller.send(request(case.method, f"{prefix}/a/{number}", key=key, close=True))
            ending = await caller.ending(patience)
        tally.faults.extend(f"{case.name}: {fault}" for fault in _judge(case, ending.data, ending.how, tally))

    async def must_end(number: int, case: Answer) -> None:
        """A case with bytes behind its answer: nobody asks for anything until the connection is gone (R48)."""
        await one(number, case)
        try:
            async with asyncio.timeout(20):  # of a busy machine
                await asyncio.gather(*(peer.ended.wait() for peer in upstream.peers))
        except TimeoutError:
            tally.faults.append(f"{case.name}: its connection stays in the pool")
            await upstream.drop()

    numbered = list(enumerate(cases))
    await asyncio.gather(*(one(*each) for each in numbered if not each[1].extra))
    await upstream.drop()
    for each in numbered:
        if each[1].extra:
            await must_end(*each)
    tally.seconds = time.monotonic() - begin
    tally.faults.extend(f"upstream: {why}" for why in upstream.dirt())
    return tally


def _judge(case: Answer, data: bytes, how: str, tally: Tally) -> list[str]:  # noqa: PLR0911  # a list of verdicts
    reading = strict.responses(data, [case.method], closed=False)
    if how == "open":
        return [f"hangs after {data[:60]!r}"]
    if reading.dirty:
        return [f"dirty to the caller: {reading.dirty}"]
    if b"POISON" in data and b"POISON" not in b"".join(case.parts).split(b"\r\n\r\n")[1][:6]:
        return ["bytes behind the answer were given to the caller"]
    whole = reading.messages[0] if reading.messages else None
    tally.statuses[str(whole.status) if whole else "cut"] += 1
    if whole is not None and whole.status == 500 and whole.value("proxy-status") is not None:
        return ["status 500 of the proxy's own"]
    ours = whole is not None and whole.status == 502 and whole.value("proxy-status") is not None
    if whole is None and how == "eof" and reading.partial is not None and reading.partial.framing == "close":
        return ["a body that lasts until the end does not show that it was cut"]
    match case.verdict:
        case "bad" if not ours:
            return [f"must be 502, is {data[:80]!r}"]
        case "cut" if whole is not None and not ours:
            return [f"must be seen as cut, is whole: {data[:80]!r}"]
        case "good" if whole is None or ours or (case.body is not None and whole.body != case.body):
            return [f"must pass, is {data[-200:]!r}"]
        case _:
            return []
