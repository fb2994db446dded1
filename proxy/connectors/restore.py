"""Putting a backup in the place of a SQLite vault (R145). All of it is checked on a copy first."""

import contextlib
import os
import secrets
import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.connectors.backup import LEFT_OUT, SIDES, refuse_damaged
from proxy.connectors.datakeys import DataKeys
from proxy.connectors.folder import prepare_folder, sync_file, sync_folder
from proxy.connectors.identity import open_identity
from proxy.connectors.masterkey import MasterKeySource
from proxy.connectors.place import disown
from proxy.connectors.rowseals import GUARDED, SEAL, sign_first, why_refused, write, write_if_genuine
from proxy.connectors.seal import Keyring
from proxy.connectors.sqlite import FILE_NAME, SqliteStore
from proxy.connectors.sqlite_handle import store_error
from proxy.connectors.store import Row, Transaction
from proxy.errors import StateError, StoreError

_FOREIGN = (  # SQLite goes by the text alone, whatever the column ``type`` says
    "SELECT 1 FROM sqlite_master WHERE sql NOT GLOB 'CREATE TABLE *' "
    "AND sql NOT GLOB 'CREATE INDEX *' AND sql NOT GLOB 'CREATE UNIQUE INDEX *' LIMIT 1"
)


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

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "file": str(self.path),
            "replaced": None if self.replaced is None else str(self.replaced),
            "connections": self.connections,
            "keys": self.keys,
            "keys_kept_revoked": self.revoked,
            "password_kept": self.password_kept,
            "is_copy": True,
        }


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
    admin: Row | None
    data_keys: tuple[Row, ...]


def _look(current: Path) -> _Before | None:
    """What the present vault tells, if there is one that can be read."""
    if not current.exists():
        return None
    try:
        with contextlib.closing(sqlite3.connect(current, timeout=1.0, isolation_level=None)) as database:
            database.row_factory = sqlite3.Row
            sequence = database.execute("SELECT sequence FROM changes").fetchone()
            revoked = database.execute("SELECT key_id, revoked_at FROM keys WHERE revoked_at IS NOT NULL")
            keys = tuple((str(key), int(when)) for key, when in revoked)
            data_keys = database.execute("SELECT key_id, master_id, wrapped, is_active FROM data_keys")
            wrapped = tuple(dict(row) for row in data_keys)
            return _Before(int(sequence[0]), keys, _admin_of(database), wrapped)
    except (sqlite3.Error, TypeError):
        return None  # damaged, which may be why a backup is put in its place


def _admin_of(database: sqlite3.Connection) -> Row | None:
    try:
        found = database.execute("SELECT * FROM admin WHERE id = 1").fetchone()
    except sqlite3.OperationalError:
        return None  # the first release's schema has none
    return None if found is None else dict(found)


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
        await data_keys.reserve(await _guarded_rows(store))
        async with store.transaction() as transaction:
            await disown(transaction, "restored", at_least=0 if before is None else before.sequence)
            for table in LEFT_OUT:  # a copied vault.db has them, and they may have ended since
                await transaction.execute(f"DELETE FROM {table}")  # noqa: S608  # our own names
            ring = await data_keys.current(transaction)
            await sign_first(transaction, ring, round(now * 1000))
            revoked = None if before is None else await _revoke(transaction, ring, before)
            is_kept = before is not None and _is_genuine(before, data_keys)
            kept = before is not None and is_kept and await _keep_password(transaction, ring, before)
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
            refuse_damaged(database, path)
            is_vault = database.execute("SELECT COUNT(*) FROM data_keys").fetchone()[0] > 0
        except sqlite3.OperationalError:
            is_vault = False
    if not is_vault:
        raise StateError("the file is no backup of a vault")


async def _guarded_rows(store: SqliteStore) -> int:
    """How many seals a restore may have to make."""
    async with store.snapshot() as reading:
        return 1 + sum([len(await reading.fetch(f"SELECT 1 AS one FROM {table}")) for table in GUARDED])  # noqa: S608  # our own names


def _is_genuine(before: _Before, data_keys: DataKeys) -> bool:
    """The present password is the operator's, not one that somebody wrote into the file."""
    if before.admin is None:
        return False
    if SEAL not in before.admin:
        return True  # of a release without seals
    try:
        return why_refused("admin", before.admin, data_keys.ring_of(before.data_keys)) is None
    except StateError:
        return False


async def _keep_password(transaction: Transaction, ring: Keyring, before: _Before) -> bool:
    """An old password, maybe changed because somebody knew it, does not come back."""
    if before.admin is None:
        return False
    row = (before.admin["password"], before.admin["changed_at"])
    put = (
        "INSERT INTO admin (id, password, changed_at) VALUES (1, $1, $2) ON CONFLICT (id) DO UPDATE "
        "SET password = excluded.password, changed_at = excluded.changed_at "
        "WHERE excluded.changed_at > admin.changed_at"
    )
    return await write(transaction, ring, "admin", 1, (put, *row), whole=True) > 0


async def _revoke(transaction: Transaction, ring: Keyring, before: _Before) -> int:
    revoked, count = "UPDATE keys SET revoked_at = $1 WHERE key_id = $2 AND revoked_at IS NULL", 0
    for key_id, when in before.revoked:
        count += await write_if_genuine(transaction, ring, "keys", key_id, (revoked, when, key_id))
    return count


def _swap(prepared: Path, current: Path, now: float) -> Path | None:
    """At every moment the name is that of one whole vault: the old or the new one."""
    sync_file(prepared)
    replaced = None
    if current.exists():
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        replaced = current.with_name(f"{current.name}.replaced-{stamp}-{secrets.token_hex(3)}")
        _keep(current, replaced)
        for side in SIDES:  # only a damaged vault has a log left, which must not meet the new file
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
        sync_file(name)
