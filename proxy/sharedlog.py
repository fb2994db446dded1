"""One log for several processes: every line whole, whatever else is written at the same moment (R155)."""

import fcntl
import os
import select
import tempfile
from typing import TextIO

_ATOMIC = select.PIPE_BUF  # POSIX: writes to a pipe up to this size are never mixed or cut


def make_lock() -> int:
    """A descriptor that every process which shares the log inherits."""
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


class SharedStream:
    """Stands for ``stream`` where text is written: whole lines, under a lock that all processes share.

    The lock keeps lines apart that are longer than a pipe takes at once. The kernel releases it when its
    holder dies, and shorter writes are whole even then.

    Args:
        stream: what all processes write to, standard error.
        lock: see make_lock; each process needs the descriptor, not more than one each.
    """

    def __init__(self, stream: TextIO, lock: int) -> None:
        self._stream = stream
        self._lock = lock

    def write(self, text: str) -> int:
        """Write whole lines; raises OSError as the stream does."""
        raw = text.encode("utf-8", "backslashreplace")
        handle = self._stream.fileno()
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            for piece in pieces(raw):
                _write_all(handle, piece)
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        """As the stream."""
        return self._stream.isatty()


def pieces(raw: bytes, limit: int = _ATOMIC) -> list[bytes]:
    """``raw`` cut after line ends into pieces of at most ``limit`` bytes; a longer line is a piece alone."""
    out: list[bytes] = []
    start = 0
    while len(raw) - start > limit:
        end = raw.rfind(b"\n", start, start + limit) + 1
        if not end:
            end = (raw.find(b"\n", start) + 1) or len(raw)
        out.append(raw[start:end])
        start = end
    if start < len(raw):
        out.append(raw[start:])
    return out


def _write_all(handle: int, raw: bytes) -> None:
    view = memoryview(raw)
    while view:
        view = view[os.write(handle, view) :]
