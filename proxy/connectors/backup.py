"""Backups of a SQLite vault, made while it is in use (R145); ``restore`` puts one in its place.

A backup is one file: the vault without its log, every secret still sealed, the master key not in it. It is
marked, so that wherever it is put it begins as a copy and spends no refresh token of the original. What is
good for once only is left out: links and sign-ins under way, browsers signed in, notices not delivered.
"""

import contextlib
import os
import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.connectors.folder import sync_file, sync_folder
from proxy.connectors.sqlite import FILE_NAME
from proxy.connectors.sqlite_handle import store_error
from proxy.errors import StateError, StoreError

_BUSY_MS = 5000
LEFT_OUT = ("notices", "sessions", "flows", "admin_tokens", "idempotency")
SIDES = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A backup that was made: where, its bytes, the vault's last change in it."""

    path: Path
    size: int
    sequence: int

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {"file": str(self.path), "bytes": self.size, "sequence": self.sequence}


def back_up(folder: Path, target: Path, *, force: bool = False) -> BackedUp:
    """Write a backup of the vault in ``folder``, while it is in use; whole or not at all, mode 0600.

    Raises:
        StateError: there is no vault, or the target is there already (unless ``force``) or cannot be written.
        StoreError: the vault could not be read.
    """
    source = folder / FILE_NAME
    if not source.exists():
        raise StateError(f"there is no vault in {folder}")
    if target.exists() and not force:
        raise StateError(f"{target} is there already: choose another name, or say --force")
    if target.exists() and target.samefile(source):
        raise StateError(f"{target} is the vault itself")
    aside = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            sequence = _copy(source, aside)
            size = aside.stat().st_size
            sync_file(aside)
            _put(aside, target, force=force)
        finally:
            for path in (aside, *(aside.with_name(aside.name + side) for side in SIDES)):
                path.unlink(missing_ok=True)
        sync_folder(target.parent)
    except sqlite3.Error as error:
        raise store_error(error) from None
    except OSError as error:
        raise StateError(f"the backup {target} cannot be written: {error.strerror}") from error
    return BackedUp(target, size, sequence)


def _copy(source: Path, aside: Path) -> int:
    """VACUUM INTO reads one state and holds up no writer; it leaves nothing of erased rows behind."""
    with contextlib.closing(sqlite3.connect(source, isolation_level=None)) as reading:
        reading.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        reading.execute("VACUUM INTO ?", (str(aside),))
    with contextlib.closing(sqlite3.connect(aside, isolation_level=None)) as copied:
        for pragma in ("journal_mode = MEMORY", "synchronous = OFF", "secure_delete = ON"):
            copied.execute(f"PRAGMA {pragma}").fetchall()
        refuse_damaged(copied, aside)
        copied.execute("BEGIN")
        copied.execute("UPDATE identity SET incarnation = 'backup'")
        for table in LEFT_OUT:
            copied.execute(f"DELETE FROM {table}")  # noqa: S608  # our own names
        copied.execute("COMMIT")
        return int(copied.execute("SELECT sequence FROM changes").fetchone()[0])


def refuse_damaged(database: sqlite3.Connection, path: Path) -> None:
    """Raises StoreError where SQLite itself finds the file damaged."""
    found = [row[0] for row in database.execute("PRAGMA integrity_check(1)").fetchall()]
    if found != ["ok"] or database.execute("PRAGMA foreign_key_check").fetchall():
        raise StoreError(f"{path} is damaged (integrity_check failed)", reason="corrupt")


def _put(aside: Path, target: Path, *, force: bool) -> None:
    """Give the file its name; without ``force`` never in place of another, not even one made just now."""
    if force:
        aside.replace(target)
        return
    try:
        os.link(aside, target)
    except FileExistsError:
        raise StateError(f"{target} is there already: choose another name, or say --force") from None
    except OSError:  # a disk without hard links
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        aside.replace(target)
