"""Where a SQLite vault lies, and how far it has got: what a copy or an older state put back gives away.

A file is known by its inode number and the time that inode was made, which the kernel sets and no tool can:
they stay through restarts, reboots, another container on the same volume, ``mv`` within a disk, VACUUM and
the recovery of the log, and differ for every copied, restored or unpacked file. Beside the vault a small file
notes the number of the latest change, so that an older state written over the file in place is noticed too.

Not to be told apart: what is copied below the files, with inodes and all (a disk image or a virtual machine
snapshot, a snapshot or clone by ZFS, btrfs or LVM), and an older state put back together with the note in
place (``rsync --inplace``).
"""

import contextlib
import ctypes
import fcntl
import os
from functools import cache
from pathlib import Path
from typing import Any

from proxy.connectors.store import Transaction

NOTE_NAME = "vault.latest"
_NOTE_BYTES = 128
_AT_FDCWD, _STATX_BTIME, _BTIME_AT, _STATX_BYTES = -100, 0x800, 80, 256  # statx(2), struct statx
_SELECT = "SELECT sequence FROM changes WHERE id = 1"


@cache
def _statx() -> Any | None:
    try:
        return ctypes.CDLL(None, use_errno=True).statx
    except (OSError, AttributeError):
        return None  # another system, or a C library from before 2018


def _born_ns(path: Path, status: os.stat_result) -> int | None:
    """When the inode was made, in nanoseconds; None where that is not kept."""
    born = getattr(status, "st_birthtime", None)
    if born is not None:
        return int(born * 1e9)
    statx = _statx()
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    if statx is None or statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, buffer) != 0:
        return None
    if not int.from_bytes(buffer.raw[:4], "little") & _STATX_BTIME:
        return None
    seconds = int.from_bytes(buffer.raw[_BTIME_AT : _BTIME_AT + 8], "little", signed=True)
    return seconds * 10**9 + int.from_bytes(buffer.raw[_BTIME_AT + 8 : _BTIME_AT + 12], "little")


def place_of(path: Path) -> str:
    """The file's identity as one text: ``sqlite:INODE:MADE``, MADE in nanoseconds or ``-``."""
    status = path.stat()
    born = _born_ns(path, status)
    return f"sqlite:{status.st_ino}:{'-' if born is None else born}"


def is_same_place(known: str, here: str) -> bool:
    """The same database: equal, but for a time of making that one of the two looks could not see."""
    if known == here:
        return True
    ours, theirs = known.split(":"), here.split(":")
    return len(ours) == len(theirs) == 3 and ours[:2] == theirs[:2] and "-" in {ours[2], theirs[2]}  # noqa: PLR2004  # kind, inode, time


class LatestNote:
    """The note of the latest change, one file for all processes; it only ever goes up for one vault file.

    It is written after the commit that it tells about and not synced each time: after a power cut it may be
    behind the vault, never ahead.
    """

    def __init__(self, vault: Path) -> None:
        self._vault = vault
        self._path = vault.with_name(NOTE_NAME)

    def read(self) -> int:
        """The number of the latest change that was noted for the file that is there now; 0 for none."""
        try:
            return self._number(self._path.read_bytes()[:_NOTE_BYTES])
        except OSError:
            return 0

    def raise_to(self, sequence: int, *, durably: bool = False) -> None:
        """Note a change, unless a later one is noted already.

        Raises:
            OSError: it could not be written.
        """
        handle = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if self._number(os.pread(handle, _NOTE_BYTES, 0)) < sequence:
                line = f"{place_of(self._vault)} {sequence}"
                os.pwrite(handle, f"{line:<{_NOTE_BYTES - 1}}\n".encode(), 0)
            if durably:
                os.fsync(handle)
        finally:
            os.close(handle)

    def _number(self, raw: bytes) -> int:
        words = raw.decode("ascii", "replace").split()
        if len(words) != 2 or not words[1].isdigit():  # noqa: PLR2004  # place and number
            return 0
        with contextlib.suppress(OSError):
            return int(words[1]) if is_same_place(words[0], place_of(self._vault)) else 0
        return 0


async def disown(transaction: Transaction, why: str, *, at_least: int = 0) -> int:
    """Make this database a copy in its own eyes, until it is adopted; the number of the change.

    The number goes over ``at_least``, so that whoever has seen the later state of it notices.
    """
    rows = await transaction.fetch(_SELECT)
    sequence = max(int(rows[0]["sequence"]), at_least) + 1
    await transaction.execute("UPDATE changes SET sequence = $1 WHERE id = 1", sequence)
    await transaction.execute("UPDATE identity SET incarnation = $1 WHERE id = 1", f"{why}")
    return sequence


async def recognise(transaction: Transaction, noted: int) -> bool:
    """Notice an older state that was put back: its number is below the one noted. True if so."""
    rows = await transaction.fetch(_SELECT)
    if int(rows[0]["sequence"]) >= noted:
        return False
    await disown(transaction, "earlier-state", at_least=noted)
    return True
