"""Hostile requests over real sockets: what leaves the proxy has one reading, whatever came in."""

import asyncio
from collections.abc import Iterator

import corpus
import foreign_corpora
import pytest
from hostile import Case, concrete
from hostilities import WIDTH, play_requests
from support import strict
from support.lab import SHORT, Lab
from support.raw import Hang, calling

pytestmark = pytest.mark.untraced


@pytest.fixture
def short(_short: Lab, runner: asyncio.Runner) -> Iterator[Lab]:
    """A proxy whose timeouts are short, so that what waits ends soon, and upstreams that remember nothing."""
    runner.run(_short.fresh())
    return _short


@pytest.mark.timeout(240)
async def test_own_corpus(short: Lab, report) -> None:
    """No hostile request dirties the upstream or the caller, hangs, gets a 500 or runs a second request (R1-R14, R16-R19, R22)."""
    cases = corpus.requests()
    assert len(cases) >= 1500
    tally = await play_requests(short.proxy.address, short.proxy.key, "/test", short.upstream, cases)
    report(f"own hostile requests: {tally}")
    assert not tally.faults, tally.verdict()
    assert "Traceback" not in short.proxy.log


@pytest.mark.timeout(240)
async def test_corpora_of_others(short: Lab, report) -> None:
    """The same holds for the public corpora, where they lie beside the checkout (R1)."""
    cases = foreign_corpora.shared_requests()
    if not cases:
        report("corpora of others: not there, own corpus only")
        cases = corpus.requests()[::50]
    tally = await play_requests(short.proxy.address, short.proxy.key, "/test", short.upstream, cases)
    report(f"hostile requests of others: {tally}")
    assert not tally.faults, tally.verdict()
    assert "Traceback" not in short.proxy.log


@pytest.mark.timeout(180)
async def test_every_prefix_waits(short: Lab, report) -> None:
    """Each prefix of twenty requests waits without an answer, then ends by the proxy's own timeout (R15, R57)."""
    key, begin = short.proxy.key, 0
    jobs: list[tuple[bytes, int]] = []
    for number, form in enumerate(corpus.prefix_requests()):
        whole = concrete(Case("", form, "pass"), key, f"/test/c/{number}")
        head_end = whole.index(b"\r\n\r\n", 4) + 4
        jobs.extend((whole[:cut], int(cut < head_end)) for cut in range(1, len(whole)))
    early: list[str] = []

    async def one(prefix: bytes, in_head: int) -> None:
        # The proxy counts from the connection, not from the bytes.
        started = asyncio.get_running_loop().time()
        async with calling(short.proxy.address) as caller:
            await caller.send(prefix)
            try:
                while await caller.more():
                    pass
            except Hang:
                early.append(f"hangs: {prefix[-40:]!r}")
                return
            took = asyncio.get_running_loop().time() - started
            statuses = [
                m.status for m in strict.responses(bytes(caller.received), [b"POST"], closed=True).messages
            ]
            if in_head and took < SHORT["head"] * 0.5 and prefix.strip(b"\r\n"):
                early.append(f"ended after {took:.2f} s with {statuses}: {prefix[-40:]!r}")
            if statuses not in ([], [408]):
                early.append(f"answered {statuses}: {prefix[-40:]!r}")

    while begin < len(jobs):
        await asyncio.gather(*(one(*job) for job in jobs[begin : begin + 12 * WIDTH]))
        begin += 12 * WIDTH
    report(f"prefixes of requests: {len(jobs)} tried")
    assert not early, "\n".join(early[:40])
    assert not short.upstream.seen()
    assert not short.upstream.dirt()
