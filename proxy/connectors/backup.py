"""Backups of a SQLite vault, made while it is in use, and putting one in its place (R145).

A backup is one file: the vault without its log, every secret still sealed, the master key not in it. It is
marked, so that wherever it is put it begins as a copy and spends no refresh token of the original. What is
good for once only is left out: links and sign-ins under way, browsers signed in, notices not delivered.
"""

import contextlib
import os
import secrets
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.connectors.datakeys import DataKeys
from proxy.connectors.folder import prepare_folder, sync_folder
from proxy.connectors.identity import open_identity
from proxy.connectors.masterkey import MasterKeySource
from proxy.connectors.place import disown
from proxy.connectors.sqlite import FILE_NAME, SqliteStore, store_error
from proxy.connectors.store import Transaction
from proxy.errors import StateError, StoreError

_BUSY_MS = 5000
_LEFT_OUT = ("notices", "sessions", "flows")
_SIDES = ("-wal", "-shm", "-journal")
_FOREIGN = (  # SQLite goes by the text alone, whatever the column ``type`` says
    "SELECT 1 FROM sqlite_master WHERE sql NOT GLOB 'CREATE TABLE *' "
    "AND sql NOT GLOB 'CREATE INDEX *' AND sql NOT GLOB 'CREATE UNIQUE INDEX *' LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A backup that was made: where, its bytes, the vault's last change in it."""

    path: Path
    size: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup that was put in place; ``replaced`` is where the vault before it lies now, if there was one.

    ``revoked`` counts the keys revoked since the backup, which stay revoked; None where the vault before it
    could not be asked. ``password_kept``: the operator's password was changed since, and stays the new one.
    """

    path: Path
    replaced: Path | None
    connections: int
    keys: int
    revoked: int | None
    password_kept: bool = False


# --- backup -------------------------------------------------------------------------------------------


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
            _sync(aside)
            _put(aside, target, force=force)
        finally:
            for path in (aside, *(aside.with_name(aside.name + side) for side in _SIDES)):
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
        _refuse_damaged(copied, aside)
        copied.execute("BEGIN")
        copied.execute("UPDATE identity SET incarnation = 'backup'")
        for table in _LEFT_OUT:
            copied.execute(f"DELETE FROM {table}")  # noqa: S608  # our own names
        copied.execute("COMMIT")
        return int(copied.execute("SELECT sequence FROM changes").fetchone()[0])


def _refuse_damaged(database: sqlite3.Connection, path: Path) -> None:
    found = [row[0] for row in database.execute("PRAGMA integrity_check(1)").fetchall()]
    if found != ["ok"] or database.execute("PRAGMA foreign_key_check").fetchall():
        raise StoreError(f"{path} is damaged (integrity_check failed)", reason="corrupt")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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


# --- restore ------------------------------------------------------------------------------------------


async def restore(backup: Path, folder: Path, source: MasterKeySource, *, now: float) -> Restored:
    """Put a backup in the vault's place; the vault before it is kept beside. No process may use the folder.

    Everything is checked on a copy first: that it is whole, its schema, and that the master key opens it. The
    restored vault is a copy until it is adopted. Keys that were revoked since the backup stay revoked, a
    password that was changed since stays changed; what is good for once only is left out here too.

    Args:
        backup: made by :func:`back_up`, or a copied ``vault.db`` with the log beside it.
        folder: the data folder.
        source: gives the master key that the backup is sealed with.
        now: epoch seconds.

    Raises:
        StateError, StoreError: why it was not restored; nothing was changed.
    """
    prepare_folder(folder)
    current = folder / FILE_NAME
    working = folder / f".restore-{secrets.token_hex(6)}"
    try:
        working.mkdir(mode=0o700)
        _fetch(backup, working / FILE_NAME)
        before = _look(current)
        connections, keys, revoked, kept = await _prepare(working, source, before, now)
        _settle(current)
        replaced = _swap(working / FILE_NAME, current, now)
    except sqlite3.Error as error:
        raise store_error(error) from None
    except OSError as error:
        raise StateError(f"{backup} cannot be restored: {error.strerror}") from error
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return Restored(current, replaced, connections, keys, revoked, kept)


def _fetch(backup: Path, target: Path) -> None:
    if not backup.is_file():
        raise StateError(f"there is no file {backup}")
    for side in ("", "-wal"):
        given = backup.with_name(backup.name + side)
        if given.is_file():
            copied = target.with_name(target.name + side)
            os.close(os.open(copied, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            shutil.copyfile(given, copied)


@dataclass(frozen=True, slots=True)
class _Before:
    """What is taken over of the vault that is replaced."""

    sequence: int
    revoked: tuple[tuple[str, int], ...]
    password: tuple[str, int] | None


def _look(current: Path) -> _Before | None:
    """What the present vault tells, if there is one that can be read."""
    if not current.exists():
        return None
    try:
        with contextlib.closing(sqlite3.connect(current, timeout=1.0, isolation_level=None)) as database:
            sequence = database.execute("SELECT sequence FROM changes").fetchone()
            revoked = database.execute("SELECT key_id, revoked_at FROM keys WHERE revoked_at IS NOT NULL")
            keys = tuple((str(key), int(when)) for key, when in revoked)
            return _Before(int(sequence[0]), keys, _password_of(database))
    except (sqlite3.Error, TypeError):
        return None  # damaged, which may be why a backup is put in its place


def _password_of(database: sqlite3.Connection) -> tuple[str, int] | None:
    try:
        found = database.execute("SELECT password, changed_at FROM admin WHERE id = 1").fetchone()
    except sqlite3.OperationalError:
        return None  # the first release's schema has none
    return None if found is None else (str(found[0]), int(found[1]))


def _settle(current: Path) -> None:
    """Write the present vault's log into its file, so that the file alone is the vault.

    Raises:
        StateError: another process uses it.
    """
    if not current.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(current, timeout=1.0, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode = DELETE").fetchall()
    except sqlite3.Error as error:
        if store_error(error).reason == "busy":
            raise StateError(f"{current} is in use by another process: let it end first") from None


async def _prepare(
    working: Path, source: MasterKeySource, before: _Before | None, now: float
) -> tuple[int, int, int | None, bool]:
    """Check the copy and make it what will be put in place.

    Counts connections, keys, keys revoked since; and whether the present password was kept.
    """
    _refuse_foreign(working / FILE_NAME)
    store = await SqliteStore.open(working)
    try:
        data_keys = await DataKeys.open(store, source, lambda: now)
        await open_identity(store, data_keys, now)
        async with store.transaction() as transaction:
            await disown(transaction, "restored", at_least=0 if before is None else before.sequence)
            for table in _LEFT_OUT:  # a copied vault.db has them, and they may have ended since
                await transaction.execute(f"DELETE FROM {table}")  # noqa: S608  # our own names
            revoked = None if before is None else await _revoke(transaction, before)
            kept = before is not None and await _keep_password(transaction, before)
            counts = [
                int((await transaction.fetch(f"SELECT COUNT(*) AS n FROM {table}"))[0]["n"])  # noqa: S608  # our own names
                for table in ("connections", "keys")
            ]
        if not await store.scrub():
            raise StoreError("the restored vault's log could not be written back", reason="busy")
    finally:
        await store.close()
    return counts[0], counts[1], revoked, kept


def _refuse_foreign(path: Path) -> None:
    """Refuse a file that is damaged, no vault, or would run something of its maker's when it is used."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA trusted_schema = OFF").close()
        if database.execute(_FOREIGN).fetchone() is not None:
            raise StateError("the file is no backup of a vault: it holds triggers or views, which none has")
        try:
            _refuse_damaged(database, path)
            is_vault = database.execute("SELECT COUNT(*) FROM data_keys").fetchone()[0] > 0
        except sqlite3.OperationalError:
            is_vault = False
    if not is_vault:
        raise StateError("the file is no backup of a vault")


async def _keep_password(transaction: Transaction, before: _Before) -> bool:
    """An old password, maybe changed because somebody knew it, does not come back."""
    if before.password is None:
        return False
    stored, changed_at = before.password
    changed = await transaction.execute(
        "INSERT INTO admin (id, password, changed_at) VALUES (1, $1, $2) ON CONFLICT (id) DO UPDATE "
        "SET password = excluded.password, changed_at = excluded.changed_at "
        "WHERE excluded.changed_at > admin.changed_at",
        stored,
        changed_at,
    )
    return changed > 0


async def _revoke(transaction: Transaction, before: _Before) -> int:
    count = 0
    for key_id, when in before.revoked:
        count += await transaction.execute(
            "UPDATE keys SET revoked_at = $1 WHERE key_id = $2 AND revoked_at IS NULL", when, key_id
        )
    return count


def _swap(prepared: Path, current: Path, now: float) -> Path | None:
    """At every moment the name is that of one whole vault: the old or the new one."""
    _sync(prepared)
    replaced = None
    if current.exists():
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        replaced = current.with_name(f"{current.name}.replaced-{stamp}-{secrets.token_hex(3)}")
        _keep(current, replaced)
        for side in _SIDES:  # only a damaged vault has a log left, which must not meet the new file
            beside = current.with_name(current.name + side)
            if beside.exists():
                _keep(beside, replaced.with_name(replaced.name + side))
                beside.unlink()
    prepared.replace(current)
    sync_folder(current.parent)
    return replaced


def _keep(path: Path, name: Path) -> None:
    try:
        os.link(path, name)
    except OSError:  # a disk without hard links
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        shutil.copyfile(path, name)
        _sync(name)


def describe(made: BackedUp | Restored) -> dict[str, Any]:
    """As JSON values."""
    if isinstance(made, BackedUp):
        return {"file": str(made.path), "bytes": made.size, "sequence": made.sequence}
    return {
        "file": str(made.path),
        "replaced": None if made.replaced is None else str(made.replaced),
        "connections": made.connections,
        "keys": made.keys,
        "keys_kept_revoked": made.revoked,
        "password_kept": made.password_kept,
        "is_copy": True,
    }
