"""The oracle proves itself: on hand-made bytes, against a second parser, and on a proxy known to be broken."""

from pathlib import Path

import corpus
import h11
import pytest
from hostilities import answering, play_answers, play_requests
from support import raw, strict
from support.certificates import Authority
from support.lab import HOST
from support.proxy import NaiveProcess
from support.upstream import Gone, Peer, Upstream

pytestmark = pytest.mark.untraced

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"

CLEAN_REQUESTS = {
    "get": (GET, 1),
    "length": (POST, 1),
    "chunked": (CHUNKED, 1),
    "pipelined": (GET + POST + CHUNKED + GET, 4),
    "empty-value": (b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n", 1),
    "obs-text": (b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n", 1),
    "nothing": (b"", 0),
}

DIRTY_REQUESTS = {
    "bare-lf": GET.replace(b"a\r\n\r\n", b"a\n\r\n"),
    "bare-cr": GET.replace(b"Host: a", b"Host: a\rX: b"),
    "fold": GET.replace(b"\r\n\r\n", b"\r\nX: a\r\n b\r\n\r\n"),
    "nul": GET.replace(b"Host: a", b"Host: a\r\nX: \x00"),
    "space-colon": GET.replace(b"Host:", b"Host :"),
    "no-host": b"GET / HTTP/1.1\r\n\r\n",
    "two-hosts": GET.replace(b"Host: a", b"Host: a\r\nhost: a"),
    "bad-host": GET.replace(b"Host: a", b"Host: a/b"),
    "version-1.0": GET.replace(b"1.1", b"1.0"),
    "version-2": GET.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "absolute": GET.replace(b"GET /", b"GET http://a/"),
    "high-target": GET.replace(b"GET /", b"GET /\xff"),
    "two-spaces": GET.replace(b"GET ", b"GET  "),
    "cl-zero-led": POST.replace(b": 2", b": 02"),
    "cl-plus": POST.replace(b": 2", b": +2"),
    "cl-list": POST.replace(b": 2", b": 2, 2"),
    "cl-twice": POST.replace(b"Content-Length: 2", b"Content-Length: 2\r\nContent-Length: 2"),
    "cl-look-alike": POST.replace(b"Content-Length: 2", b"Content-Length: 2\r\nContent_Length: 2"),
    "cl-too-short": POST.replace(b": 2", b": 1").replace(b"hi", b"h/") + GET,
    "te-and-cl": CHUNKED.replace(b"Transfer-", b"Content-Length: 2\r\nTransfer-"),
    "te-case": CHUNKED.replace(b"chunked", b"Chunked"),
    "te-list": CHUNKED.replace(b"chunked", b"gzip, chunked"),
    "te-twice": CHUNKED.replace(b"Transfer-", b"Transfer-Encoding: chunked\r\nTransfer-"),
    "chunk-ext": CHUNKED.replace(b"2\r\nhi", b"2;a\r\nhi"),
    "chunk-plus": CHUNKED.replace(b"2\r\nhi", b"+2\r\nhi"),
    "chunk-lf": CHUNKED.replace(b"2\r\nhi", b"2\nhi"),
    "chunk-miscount": CHUNKED.replace(b"2\r\nhi", b"1\r\nhi"),
    "chunk-zeros": CHUNKED.replace(b"2\r\nhi", b"02\r\nhi"),
    "trailer": CHUNKED.replace(b"0\r\n\r\n", b"0\r\nX: 1\r\n\r\n"),
    "hop": GET.replace(b"Host: a", b"Host: a\r\nKeep-Alive: 1"),
    "blank-line-before": b"\r\n" + GET,
    "after-close": GET.replace(b"Host: a", b"Host: a\r\nConnection: close") + GET,
    "tail": GET + b"garbage\n",
}

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

DIRTY_ANSWERS = {
    "unasked": (ANSWER + ANSWER, [b"GET"]),
    "glued": (ANSWER.replace(b": 2", b": 1"), [b"GET"]),
    "head-with-body": (ANSWER, [b"HEAD"]),
    "204-with-length": (b"HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n", [b"GET"]),
    "304-with-body": (b"HTTP/1.1 304 x\r\n\r\nhi", [b"GET"]),
    "status-99": (b"HTTP/1.1 099 x\r\nContent-Length: 0\r\n\r\n", [b"GET"]),
    "status-600": (b"HTTP/1.1 600 x\r\nContent-Length: 0\r\n\r\n", [b"GET"]),
    "te-identity": (b"HTTP/1.1 200 x\r\nTransfer-Encoding: identity\r\n\r\n", [b"GET"]),
    "error-page-in-chunks": (
        b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nHTTP/1.1 502 x\r\n\r\n",
        [b"GET"],
    ),
    "after-close": (ANSWER.replace(b"OK", b"OK\r\nConnection: close") + ANSWER, [b"GET", b"GET"]),
    "garbage": (b"hello\r\n", [b"GET"]),
}


@pytest.mark.parametrize(("data", "count"), CLEAN_REQUESTS.values(), ids=CLEAN_REQUESTS)
def test_clean_requests(data: bytes, count: int) -> None:
    """Well-formed requests are read whole, and h11 reads as many."""
    reading = strict.requests(data)
    assert (reading.dirty, reading.rest, len(reading.messages)) == (None, b"", count)
    other = h11.Connection(h11.SERVER)
    other.receive_data(data)
    seen = 0
    while data and seen < count:
        event = other.next_event()
        if isinstance(event, h11.EndOfMessage):
            seen += 1
            other.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            other.send(h11.EndOfMessage())
            other.start_next_cycle()
    assert seen == count


@pytest.mark.parametrize("data", DIRTY_REQUESTS.values(), ids=DIRTY_REQUESTS)
def test_dirty_requests(data: bytes) -> None:
    """Each departure from the canonical form of a request is found."""
    assert strict.requests(data).dirty is not None


@pytest.mark.parametrize(("data", "methods"), DIRTY_ANSWERS.values(), ids=DIRTY_ANSWERS)
def test_dirty_answers(data: bytes, methods: list[bytes]) -> None:
    """Each departure from the canonical form of an answer is found."""
    assert strict.responses(data, methods, closed=True).dirty is not None


@pytest.mark.parametrize("data", [POST, CHUNKED, GET])
def test_prefixes_are_never_dirty(data: bytes) -> None:
    """A message that is cut anywhere is unfinished, neither dirty nor whole."""
    for cut in range(1, len(data)):
        reading = strict.requests(data[:cut])
        assert (reading.dirty, reading.messages) == (None, ())
        assert reading.rest == data[:cut]


def test_clean_answers() -> None:
    """Lengths, chunks, interim and bodiless answers, and one that lasts until the end are read whole."""
    data = (
        b"HTTP/1.1 103 x\r\nLink: a\r\n\r\n"
        + ANSWER
        + b"HTTP/1.1 204 x\r\n\r\nHTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n"
        b"HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nHTTP/1.1 200 x\r\n\r\nrest"
    )
    reading = strict.responses(data, [b"GET", b"GET", b"GET", b"HEAD", b"GET", b"GET"], closed=True)
    assert reading.dirty is None
    assert [m.body for m in reading.messages] == [b"hi", b"", b"", b"", b"hi", b"rest"]
    assert [m.status for m in reading.interim] == [103]
    assert not strict.responses(
        data, [b"GET", b"GET", b"GET", b"HEAD", b"GET", b"GET"], closed=False
    ).messages[5:]


@pytest.mark.timeout(180)
async def test_the_suite_finds_the_naive_twin_broken(authority: Authority, tmp_path: Path, report) -> None:
    """An ordinary aiohttp reverse proxy sends dirty bytes, glues error pages into bodies and repeats a DELETE; the suite sees each."""
    upstream = Upstream(authority.server(HOST))
    async with upstream.running():
        with NaiveProcess(tmp_path / "naive", upstream=upstream.address, ca_file=authority.ca_file) as twin:
            cases = [case for case in corpus.requests() if not case.name.startswith("size/")][::3]
            asked = await play_requests(twin.address, twin.key, "", upstream, cases, patience=3)
            answers = [case for case in corpus.answers() if "endless" not in case.name and not case.extra]
            await upstream.fresh(answering(answers))
            answered = await play_answers(twin.address, twin.key, "", upstream, answers, patience=3)

            async def dies(peer: Peer) -> None:
                await peer.request()
                raise Gone

            await upstream.fresh(dies)
            await raw.call(twin.address, "DELETE", "/once", key=None)
            deletes = [m for m in upstream.seen() if m.method == b"DELETE"]
    report(f"naive twin: requests {asked}; answers {answered}; one DELETE sent {len(deletes)} times")
    dirty = [fault for fault in asked.faults if fault.startswith("upstream: ")]
    let_in = [fault for fault in asked.faults if "must be refused" in fault]
    glued = [fault for fault in answered.faults if "dirty to the caller" in fault and "HTTP/1.1 502" in fault]
    hidden = [fault for fault in answered.faults if "seen as cut" in fault and "HTTP/1.1 502" not in fault]
    passed = [fault for fault in answered.faults if "must be 502" in fault and "HTTP/1.1 502" not in fault]
    found = {
        "dirty": dirty,
        "let in": let_in,
        "glued": glued,
        "hidden cuts": hidden,
        "bad answers passed": passed,
    }
    report(f"naive twin: {', '.join(f'{name}: {len(faults)}' for name, faults in found.items())}")
    assert all(found.values()), found
    assert len(deletes) == 2
