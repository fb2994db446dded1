"""Hostile answers of upstreams: the caller gets one reading, sees what is cut, and gets nobody else's bytes."""

import asyncio
from collections.abc import Iterator

import answer_cases
import corpus
import foreign_corpora
import pytest
from hostilities import answering, play_answers
from support.lab import Lab
from support.upstream import Peer

pytestmark = pytest.mark.untraced


@pytest.fixture
def short(_short: Lab, runner: asyncio.Runner) -> Iterator[Lab]:
    """A proxy whose timeouts are short, and upstreams that remember nothing."""
    runner.run(_short.fresh())
    return _short


@pytest.mark.timeout(240)
async def test_own_corpus(short: Lab, report) -> None:
    """Bad answers become 502, cut ones are seen as cut, good ones pass whole, and all of it is clean (R42-R50, R52, R55)."""
    cases = corpus.answers()
    assert len(cases) >= 150
    await short.upstream.fresh(answering(cases))
    tally = await play_answers(short.proxy.address, short.proxy.key, "/test", short.upstream, cases)
    report(f"own hostile answers: {tally}")
    assert not tally.faults, tally.verdict()
    assert "Traceback" not in short.proxy.log


@pytest.mark.timeout(120)
async def test_corpora_of_others(short: Lab, report) -> None:
    """The same holds for the public probes, where they lie beside the checkout (R42, R45)."""
    cases = foreign_corpora.shared_answers()
    if not cases:
        report("answers of others: not there, own corpus only")
        cases = corpus.answers()[::20]
    await short.upstream.fresh(answering(cases))
    tally = await play_answers(short.proxy.address, short.proxy.key, "/test", short.upstream, cases)
    report(f"hostile answers of others: {tally}")
    assert not tally.faults, tally.verdict()


@pytest.mark.parametrize("late", [b"x", b"\r\n", answer_cases.POISON], ids=["byte", "blank-line", "answer"])
async def test_late_bytes_poison_nobody(short: Lab, late: bytes) -> None:
    """Bytes that come while a connection is idle are never the next caller's answer (R48, R67)."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer_cases.HELLO)
        if len(short.upstream.peers) == 1:
            await asyncio.sleep(0.05)  # the connection has to be idle in the pool before the late bytes come
            await peer.send(late)
        while True:
            await peer.request()
            await peer.send(answer_cases.HELLO if len(short.upstream.peers) > 1 else answer_cases.POISON)

    await short.upstream.fresh(script)
    first = await short.call("GET", "/test/first")
    assert first.body == b"hello"
    peer = await short.upstream.peer()
    await asyncio.wait_for(peer.ended.wait(), 20)
    second = await short.call("POST", "/test/second", body=b"x")
    assert second.body == b"hello"
    assert len(short.upstream.peers) == 2
