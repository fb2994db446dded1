"""What a hostile case is, and the pieces that all of them are made of."""

from dataclasses import dataclass
from typing import Literal

Expect = Literal["refuse", "pass", "either"]
Verdict = Literal["bad", "cut", "good", "either"]

SMUGGLED = b"GET {AT}/SMUG HTTP/1.1\r\nHost: proxy.example\r\nAuthorization: Bearer {KEY}\r\n\r\n"
AUTH = b"Authorization: Bearer {KEY}\r\n"
HOST = b"Host: proxy.example\r\n"
LINE = b"POST {AT} HTTP/1.1\r\n"

CONTROLS = [bytes([n]) for n in (*range(9), *range(10, 32), 127)]
HIGH = [bytes([n]) for n in (0x80, 0x85, 0x8A, 0x8D, 0xA0, 0xAD, 0xC0, 0xC2, 0xE2, 0xF0, 0xFE, 0xFF)]


@dataclass(frozen=True, slots=True)
class Case:
    """One hostile request. ``whole``: it does not end inside a further message, so the next one is by itself."""

    name: str
    data: bytes
    expect: Expect
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """One upstream answer.

    ``verdict``: bad (502), cut (a truncation that the caller must see), good (passes whole), either.
    ``then``: what the upstream does after its last byte: keep, finish, cut, reset. ``extra``: bytes stand behind
    the answer, so its connection must not be kept.
    """

    name: str
    parts: tuple[bytes, ...]
    verdict: Verdict
    then: str = "finish"
    body: bytes | None = None
    method: bytes = b"GET"
    extra: bool = False


def covered(framing: bytes, body: bytes) -> bytes:
    """A request with ``framing`` lines and a Content-Length (``{LEN}``) that covers the whole body."""
    return LINE + HOST + AUTH + framing + b"Content-Length: {LEN}\r\n\r\n" + body


def concrete(case: Case, key: str, at: str) -> bytes:
    """The bytes to send: every place filled.

    ``{LEN}`` is the length of what follows the blank line after it, ``{CHUNK}`` (three hex digits) that of SMUGGLED.
    """

    def fill(data: bytes) -> bytes:
        return data.replace(b"{KEY}", key.encode()).replace(b"{AT}", at.encode())

    data = fill(case.data).replace(b"{CHUNK}", b"%03x" % len(fill(SMUGGLED)))
    before, place, after = data.partition(b"{LEN}")
    if not place:
        return data
    body = after.partition(b"\r\n\r\n")[2]
    return before + (b"%d" % len(body)) + after.replace(b"{LEN}", b"%d" % len(body))


def is_token_byte(n: int) -> bool:
    """True for the bytes of a token (RFC 9110 section 5.6.2)."""
    return n < 128 and (chr(n).isalnum() or chr(n) in "!#$%&'*+-.^_`|~")
