"""Our reading of answers against h11's and the strict oracle's, and against itself under any cutting."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.answers import METHODS, SEEDS, disagreement, mutations, outcome, pieces_of, read
from support.depth import examples

MUTATIONS = examples(20_000)

NAMES = st.sampled_from(
    [b"X-A", b"x-a", b"Set-Cookie", b"ETag", b"Connection", b"Keep-Alive", b"Via", b"Proxy-Status", b"X-%s"]
)
VALUES = st.sampled_from(
    [b"", b"1", b"a b", b"\tx ", b"close", b"X-A, close", b"keep-alive", b"\xe4\xff", b"%s", b"x-a,,ETag"]
)
STATUS = st.sampled_from(
    [b"200 OK", b"201 ", b"204 No Content", b"206 P", b"304 N", b"404 Not Found", b"599 x\ty"]
)
INTERIM = st.sampled_from(
    [
        b"",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 E\r\nLink: </x>\r\n\r\n",
        b"HTTP/1.1 102 P\r\nX: y\r\n\r\n",
    ]
)
CHUNK_EXTENSIONS = st.sampled_from([b"", b";a", b";a=b", b';a="b c"'])


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """A well-formed answer in any framing, perhaps behind interim ones and before bytes that are not its own."""
    fields = b"".join(
        b"%b: %b\r\n" % (name, value) for name, value in draw(st.lists(st.tuples(NAMES, VALUES), max_size=5))
    )
    body = draw(
        st.binary(max_size=40)
        | st.sampled_from([b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
    )
    framing = draw(st.sampled_from(["length", "chunked", "eof"]))
    status = draw(STATUS)
    if status.startswith(b"204"):
        framing, body = "eof", b""
    if framing == "length":
        head, payload = b"Content-Length: %d\r\n" % len(body), body
    elif framing == "chunked":
        size = draw(st.integers(1, 9))
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        extension = draw(CHUNK_EXTENSIONS)
        trailers = draw(st.sampled_from([b"", b"X-A: 1\r\n", b"Connection: close\r\nX: \r\n"]))
        head = b"Transfer-Encoding: chunked\r\nTrailer: X-A\r\n"
        payload = (
            b"".join(b"%x%b\r\n%b\r\n" % (len(p), extension, p) for p in parts)
            + b"0\r\n"
            + trailers
            + b"\r\n"
        )
    else:
        head, payload = b"", body
    behind = (
        b""
        if framing == "eof"
        else draw(st.sampled_from([b"", b"\r", b"\n", b"\r\n", b"x", b"HTTP/1.1 200 OK\r\n"]))
    )
    before = b"".join(draw(st.lists(INTERIM, max_size=2)))
    return before + b"HTTP/1.1 " + status + b"\r\n" + fields + head + b"\r\n" + payload + behind


@settings(max_examples=examples(400), deadline=None)
@given(answers(), st.sampled_from(METHODS), st.booleans())
def test_three_parsers_agree_on_what_is_well_formed(data, method, closed):
    """Status, fields, body and what is left over are what h11 and the strict oracle read (R42, R43, R48)."""
    assert disagreement(data, method, closed=closed) is None


@settings(max_examples=examples(400), deadline=None)
@given(answers(), st.sampled_from(METHODS), st.booleans(), st.data())
def test_a_truncated_answer_is_never_another_one(data, method, closed, more):
    """What is cut anywhere is not complete, or is read as the other parsers read it (R45)."""
    cut = data[: more.draw(st.integers(0, len(data)))]
    assert disagreement(cut, method, closed=closed) is None


@settings(max_examples=examples(400), deadline=None)
@given(
    answers() | st.sampled_from(SEEDS),
    st.sampled_from(METHODS),
    st.booleans(),
    st.lists(st.integers(0, 10_000), max_size=6),
)
def test_how_the_bytes_are_cut_changes_nothing(data, method, closed, cuts):
    """Whole, byte by byte or in random pieces: the same head, body, trailers, verdict and left-over (R15, R48)."""
    whole = outcome([data], method, closed=closed)
    assert outcome(pieces_of(data, cuts), method, closed=closed) == whole
    assert outcome([data[i : i + 1] for i in range(len(data))], method, closed=closed) == whole
    assert outcome([data], method, closed=closed, expecting=True) == whole
    assert outcome(pieces_of(data, cuts), method, closed=closed, expecting=True) == whole


@pytest.mark.untraced
@pytest.mark.parametrize("seed", [20_261_122])
def test_mutated_answers(seed, report):
    """Of thousands of mutated answers nothing is taken that the others refuse or read otherwise, and none raises (R47)."""
    taken = 0
    random_ = random.Random(seed)
    for data, method, closed in mutations(MUTATIONS, seed):
        wrong = disagreement(data, method, closed=closed)
        assert wrong is None, (data, method, closed)
        whole = outcome([data], method, closed=closed)
        cuts = [random_.randrange(10_000) for _ in range(3)]
        assert outcome(pieces_of(data, cuts), method, closed=closed) == whole, (data, method, closed, cuts)
        assert outcome([data], method, closed=closed, expecting=True) == whole, (data, method, closed)
        taken += bool(whole[0])
    assert MUTATIONS // 10 < taken < MUTATIONS  # neither all good nor all bad: the loop tests something
    report(f"mutated answers: {MUTATIONS}, of which {taken} are whole")


HEADS = [
    b"Date: x\r\nContent-Length: 2\r\n\r\nok",
    b"A:  x\r\nContent-Length: 2\r\n\r\nok",
    b"A: x \r\nContent-Length: 2\r\n\r\nok",
    b"A: \tx\r\nContent-Length: 2\r\n\r\nok",
    b"A: x\ty\r\nContent-Length: 2\r\n\r\nok",
    b"A:\r\nContent-Length: 2\r\n\r\nok",
    b"A: \r\nContent-Length: 2\r\n\r\nok",
    b"A: x\x00\r\nContent-Length: 2\r\n\r\nok",
    b"A: x\n B: y\r\nContent-Length: 2\r\n\r\nok",
    b"A: x\r\n folded\r\nContent-Length: 2\r\n\r\nok",
    b"A: \xe4\r\nContent-Length: 02\r\n\r\nok",
    b"Content-Length: +2\r\n\r\nok",
    b"Content-Length: 2, 2\r\n\r\nok",
    b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
    b"Content-Length: 2\r\nConnection: close\r\n\r\nok",
    b"Content-Length: 2\r\nConnection: A\r\nA: x\r\n\r\nok",
    b"Content-Length: 2\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nok",
    b"Content-Length: 2\r\nProxy-Connection: close\r\n\r\nok",
    b"Content-Length: 2\r\nContent-Encoding: gzip\r\n\r\nok",
    b"Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
    b"Content-Length: 3\r\n\r\nok",
    b"Content-Length: 0\r\n\r\n",
    b"Content-Length: 0\r\n\r\nx",
    b"Content-Length: 999999999999999999\r\n\r\nok",
    b"Content-Length: 9999999999999999999\r\n\r\nok",
]
LINES = [
    b"200 OK",
    b"204 No Content",
    b"304 x",
    b"404 Not Found",
    b"599 z",
    b"600 z",
    b"100 C",
    b"200",
    b"200 ",
    b"200  OK",
    b"200 O\tK",
]


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("line", LINES)
def test_what_was_expected_is_read_as_the_parser_reads_it(line, method):
    """An answer that is read without the parser, since the one before looked alike, means what the parser says (R47)."""
    taken = 0
    for version in (b"HTTP/1.1 ", b"HTTP/1.0 ", b"HTTP/1.1  ", b"http/1.1 "):
        for head in HEADS:
            data = version + line + b"\r\n" + head
            for closed in (True, False):
                plain = outcome([data], method, closed=closed, expecting=True)
                assert plain == outcome([data], method, closed=closed), data
                cut = data.index(b"\r\n\r\n") + 4
                pieces = pieces_of(data, [cut, cut + 1])
                assert outcome(pieces, method, closed=closed, expecting=True) == plain, data
            taken += read([data], method, closed=False, expecting=True)._left is not None
    assert bool(taken) is (line in {b"200 OK", b"204 No Content", b"304 x", b"404 Not Found", b"599 z"})


def test_noise():
    """Bytes that have nothing to do with HTTP are refused or waited for, never taken (R46)."""
    random_ = random.Random(7)
    for _ in range(2_000):
        data = random_.randbytes(random_.randrange(1, 80))
        complete = outcome([data], b"GET", closed=True)[0]
        assert not complete
