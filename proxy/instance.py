"""The running server's marks in the data folder: its lock, where it listens, what a first start has to tell.

The kernel drops the lock when the process ends, however it ends, so no stale one is ever left.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from proxy.errors import StateError

LOCK_NAME = "serve.lock"
READY_NAME = "server.json"
FIRST_RUN_NAME = "first-run"
TAKEN_S = 1.0  # a change counts within this time (R89)
_TAKEN_POLL_S = 0.01
_MARK_BYTES = 64


class InstanceLock:
    """The exclusive right to serve a data folder; a context manager.

    Raises:
        StateError: another process holds it (named by its pid), or the folder does not let us write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / LOCK_NAME
        self._handle: int | None = None

    def __enter__(self) -> Self:
        try:
            handle = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StateError(
                f"the data folder {self._path.parent} cannot be written: {error.strerror}; "
                "mend its owner and mode, or choose another one with --data-dir"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            owner, _ = _mark(os.pread(handle, _MARK_BYTES, 0))
            os.close(handle)
            raise StateError(
                f"the data folder {self._path.parent} is in use by the server with pid {owner or 'unknown'}: "
                "stop that one, or choose another folder with --data-dir"
            ) from None
        except OSError as error:
            os.close(handle)
            raise StateError(f"{self._path} cannot be locked: {error.strerror}") from error
        self._handle = handle
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def took(self, sequence: int) -> None:
        """Note in the file that the server has taken in the vault's changes up to this one."""
        if self._handle is not None:
            with contextlib.suppress(OSError):  # a full disk costs only that a command waits in vain
                # one write of one length, so that no reader sees a half
                os.pwrite(self._handle, f"{os.getpid()}\n{sequence:020d}\n".encode(), 0)


def _mark(raw: bytes) -> tuple[int | None, int | None]:
    """Pid and sequence that a lock file holds, as far as it does."""
    numbers = [int(word) for word in raw.split() if word.isdigit()]
    return (*numbers, None, None)[:2]  # type: ignore[return-value]  # two of those, whatever there was


def taken(folder: Path) -> int | None:
    """The last change of the vault that the server of this data folder has taken in.

    None when none is running, or it has no vault.
    """
    told = running(folder)
    if told is None:
        return None
    try:
        pid, sequence = _mark((folder / LOCK_NAME).read_bytes()[:_MARK_BYTES])
    except OSError:
        return None
    return sequence if pid == told["pid"] else None


async def until_taken(folder: Path, sequence: int, *, patience_s: float = TAKEN_S) -> bool:
    """Wait for the server of this data folder, if one runs, to take in a change of its vault.

    Returns:
        False when it has not within ``patience_s`` seconds.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    while (found := await asyncio.to_thread(taken, folder)) is not None and found < sequence:
        if loop.time() > deadline:
            return False
        await asyncio.sleep(_TAKEN_POLL_S)
    return True


def write_private(path: Path, text: str) -> None:
    """Put a file readable by us alone in place, whole or not at all.

    Raises:
        StateError: the folder or disk does not let us.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from error


def announce(folder: Path, bound: Mapping[str, object]) -> None:
    """Write ``server.json``: from now on the addresses in it answer."""
    write_private(folder / READY_NAME, json.dumps({"pid": os.getpid(), **bound}) + "\n")


def withdraw(folder: Path) -> None:
    """Remove ``server.json``."""
    with contextlib.suppress(OSError):
        (folder / READY_NAME).unlink(missing_ok=True)


def running(folder: Path) -> Mapping[str, Any] | None:
    """What the server of this data folder told about itself, or None when none is running."""
    try:
        told = json.loads((folder / READY_NAME).read_text(encoding="utf-8"))
        os.kill(int(told["pid"]), 0)
    except PermissionError:
        return None  # another user's process
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return dict(told)
