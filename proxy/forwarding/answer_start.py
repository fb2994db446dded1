"""The head of an answer as the caller gets it (RFC 9112 §4). Pure."""

from proxy.forwarding.framing import AnswerHead
from proxy.forwarding.gate import Head


def head_bytes(
    answer: AnswerHead, head: Head, trailers: frozenset[bytes], *, keep: bool, chunked: bool
) -> bytes:
    """The head for the caller, in the caller's version."""
    status, reason, lines, length = answer.status, answer.reason, answer.lines, answer.length
    if keep and length is not None and not head.http10:
        return b"HTTP/1.1 %d %b\r\n%bContent-Length: %d\r\n\r\n" % (status, reason, lines, length)
    parts = [b"HTTP/1.%d %d %b\r\n%b" % (0 if head.http10 else 1, status, reason, lines)]
    if chunked:
        if trailers:
            parts.append(b"Trailer: %b\r\n" % b", ".join(sorted(trailers)))
        parts.append(b"Transfer-Encoding: chunked\r\n")
    elif length is not None:
        parts.append(b"Content-Length: %d\r\n" % length)
    if not keep:
        parts.append(b"Connection: close\r\n")
    elif head.http10:
        parts.append(b"Connection: keep-alive\r\n")
    parts.append(b"\r\n")
    return b"".join(parts)
