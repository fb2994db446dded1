"""Backups of a SQLite vault: made in use, restored elsewhere with the key alone, never half (R145)."""

import asyncio
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest
from support.vaults import CATALOG, MASTER, NOW, OTHER_MASTER, Clock, key_file, key_record, opened

from proxy.connectors import backup
from proxy.connectors.backup import back_up
from proxy.connectors.masterkey import GivenKey
from proxy.connectors.model import Tokens
from proxy.connectors.place import NOTE_NAME
from proxy.connectors.restore import restore
from proxy.connectors.sqlite import FILE_NAME
from proxy.connectors.vault import Vault
from proxy.errors import StateError, StoreError
from proxy.keys import KeyRecord
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")
TOKENS = Tokens(Secret("kept-8d1f-access"), Secret("kept-8d1f-refresh"), NOW + 3600)
KEY = GivenKey(MASTER)


async def _made(folder: Path) -> KeyRecord:
    record = key_record("backend")[0]
    async with opened(folder) as vault:
        await vault.save_connection("slack", "work", TOKENS, scopes=("read",))
        await vault.add_key(record)
    return record


async def test_a_backup_restores_on_another_machine_with_the_key_alone(tmp_path: Path) -> None:
    """Backed up while in use, restored in an empty folder: tokens, keys and history are there (R145)."""
    async with opened(tmp_path / "d") as vault:
        saved = await vault.save_connection("slack", "work", TOKENS, scopes=("read",))
        record = key_record("backend")[0]
        await vault.add_key(record)
        made = await asyncio.to_thread(back_up, tmp_path / "d", tmp_path / "backup.db")
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    done = await restore(made.path, tmp_path / "elsewhere", KEY, now=NOW)
    assert (done.connections, done.keys, done.replaced) == (1, 1, None)
    async with opened(tmp_path / "elsewhere") as vault:
        held = vault.snapshot.held[saved.connection_id]
        assert held.tokens is not None
        assert held.tokens.refresh_token == TOKENS.refresh_token
        assert vault.keys() == {record.key_id: record}
        assert [row.action for row in await vault.audit()] == ["key.create", "connection.save"]
        assert vault.is_copy, "a restored vault refreshes nothing before it is adopted"
        assert await vault.adopt()
    async with opened(tmp_path / "elsewhere") as vault:
        assert not vault.is_copy


async def test_a_backup_holds_no_key_no_plaintext_and_nothing_for_once(tmp_path: Path) -> None:
    """In the file are neither tokens nor master key; notices, sessions and flows are left out (R133, R144)."""
    folder = tmp_path / "d"
    async with opened(folder, key=key_file(folder)) as vault:
        await vault.save_connection("slack", "gone", Tokens(Secret("kept-8d1f-removed"), None, None))
        await vault.remove("slack", "gone")
        await vault.save_connection("slack", "work", TOKENS)
        await vault.freeze("slack", "work")
    with sqlite3.connect(folder / FILE_NAME) as plain:
        plain.execute("INSERT INTO notices (notice_id, at, body, next_at) VALUES ('n', 1, '{}', 1)")
        plain.execute("INSERT INTO sessions (session_digest, created_at, expires_at) VALUES (x'00', 1, 1)")
    plain.close()
    back_up(folder, tmp_path / "backup.db")
    content = (tmp_path / "backup.db").read_bytes()
    assert b"8d1f" not in content
    assert (folder / "master.key").read_bytes().strip() not in content
    with sqlite3.connect(tmp_path / "backup.db") as plain:
        left = "SELECT 1 FROM notices UNION SELECT 1 FROM sessions UNION SELECT 1 FROM flows"
        assert plain.execute(left).fetchall() == []
        assert plain.execute("SELECT incarnation FROM identity").fetchall() == [("backup",)]
    plain.close()
    assert set(_files(tmp_path)) == {"backup.db"}, "nothing is left beside it"


async def test_writers_go_on_during_a_backup(tmp_path: Path) -> None:
    """Backups made while connections are written are each one committed state: whole, and none refuses a write."""
    folder = tmp_path / "d"
    async with opened(folder) as vault:
        await vault.save_connection("slack", "work", TOKENS)
        ended = asyncio.Event()

        async def write() -> int:
            count = 0
            while not ended.is_set():
                count += 1
                await vault.save_connection("slack", "work", Tokens(Secret(f"xoxp-{count}"), None, None))
            return count

        writing = asyncio.create_task(write())
        sequences = []
        for at in range(5):
            made = await asyncio.to_thread(back_up, folder, tmp_path / f"backup-{at}.db")
            sequences.append(made.sequence)
        ended.set()
        written = await writing
    assert written > 1
    assert sequences == sorted(sequences)
    for at, sequence in enumerate(sequences):
        await restore(tmp_path / f"backup-{at}.db", tmp_path / f"r{at}", KEY, now=NOW)
        async with opened(tmp_path / f"r{at}") as restored:
            (one,) = restored.snapshot.held.values()
            assert one.tokens is not None
            expected = "kept-8d1f-access" if sequence == 1 else f"xoxp-{sequence - 1}"
            assert one.tokens.access_token == Secret(expected)


async def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    """Without ``force`` neither a file that is there, nor one that appears meanwhile, nor the vault is replaced."""
    await _made(tmp_path / "d")
    target = tmp_path / "backup.db"
    target.write_text("precious")
    with pytest.raises(StateError, match="--force"):
        back_up(tmp_path / "d", target)
    with pytest.raises(StateError, match="--force"):
        backup._put(tmp_path / "d" / FILE_NAME, target, force=False)
    assert target.read_text() == "precious"
    assert back_up(tmp_path / "d", target, force=True).size == target.stat().st_size
    with pytest.raises(StateError, match="vault itself"):
        back_up(tmp_path / "d", tmp_path / "d" / FILE_NAME, force=True)
    with pytest.raises(StateError, match="no vault"):
        back_up(tmp_path / "nowhere", tmp_path / "other.db")
    with pytest.raises(StateError, match="cannot be written"):
        back_up(tmp_path / "d", tmp_path / "nowhere" / "backup.db")


async def test_a_disk_without_hard_links_takes_backups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where names cannot be linked (FAT) a backup is made and restored all the same."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    await _made(tmp_path / "d")
    monkeypatch.setattr(backup.os, "link", refuse)
    back_up(tmp_path / "d", tmp_path / "backup.db")
    done = await restore(tmp_path / "backup.db", tmp_path / "d", KEY, now=NOW)
    assert done.replaced is not None
    assert done.replaced.stat().st_size > 0


async def test_a_restore_keeps_the_vault_before_it(tmp_path: Path) -> None:
    """The vault that was there lies beside, openable; keys revoked since the backup stay revoked."""
    folder = tmp_path / "d"
    record = await _made(folder)
    back_up(folder, tmp_path / "backup.db")
    async with opened(folder) as vault:
        await vault.save_connection("notion", "later", TOKENS)
        assert await vault.revoke_key(record.key_id)
    done = await restore(tmp_path / "backup.db", folder, KEY, now=NOW)
    assert done.replaced is not None
    assert done.revoked == 1
    async with opened(folder) as vault:
        assert [one.service for one in vault.connections()] == ["slack"]
        assert vault.keys()[record.key_id].revoked_at == NOW
        assert vault.is_copy
    (tmp_path / "kept").mkdir(mode=0o700)
    shutil.copy2(done.replaced, tmp_path / "kept" / FILE_NAME)
    async with opened(tmp_path / "kept") as vault:
        assert [one.service for one in vault.connections()] == ["notion", "slack"]


async def test_a_damaged_vault_can_be_replaced(tmp_path: Path) -> None:
    """A backup comes into the place of a vault that no longer opens; of its log nothing meets the new file."""
    folder = tmp_path / "d"
    await _made(folder)
    back_up(folder, tmp_path / "backup.db")
    (folder / FILE_NAME).write_bytes(b"no database at all" * 1000)
    (folder / f"{FILE_NAME}-wal").write_bytes(b"remains of a log")
    with pytest.raises(StateError):
        await Vault.open(folder, KEY, catalog=CATALOG, clock=Clock())
    done = await restore(tmp_path / "backup.db", folder, KEY, now=NOW)
    assert done.revoked is None, "nobody knows which keys were revoked since"
    assert done.replaced is not None
    assert done.replaced.read_bytes().startswith(b"no database")
    assert not (folder / f"{FILE_NAME}-wal").exists()
    async with opened(folder) as vault:
        assert len(vault.connections()) == 1


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != NOTE_NAME
    }


async def _refused(folder: Path, given: Path, key: GivenKey, match: str) -> None:
    before = _files(folder)
    with pytest.raises((StateError, StoreError), match=match):
        await restore(given, folder, key, now=NOW)
    assert _files(folder) == before, "nothing may change by a restore that is refused"


async def test_what_cannot_be_used_is_refused_before_anything_changes(tmp_path: Path) -> None:
    """Wrong key, damaged, foreign, too new, missing: each is refused with its reason, the vault untouched (R138)."""
    folder = tmp_path / "d"
    await _made(folder)
    good = tmp_path / "backup.db"
    back_up(folder, good)
    await _refused(folder, good, GivenKey(OTHER_MASTER), "sealed with master key")
    await _refused(folder, tmp_path / "missing.db", KEY, "there is no file")

    torn = tmp_path / "torn.db"
    content = bytearray(good.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 6000] = bytes(6000)
    torn.write_bytes(content)
    await _refused(folder, torn, KEY, "damaged")

    cut = tmp_path / "cut.db"
    cut.write_bytes(good.read_bytes()[:20_000])
    await _refused(folder, cut, KEY, "damaged|not a database")

    text = tmp_path / "text.db"
    text.write_text("hello " * 5000)
    await _refused(folder, text, KEY, "not a database")

    other = tmp_path / "other.db"
    with sqlite3.connect(other) as plain:
        plain.execute("CREATE TABLE songs (id INTEGER)")
    plain.close()
    await _refused(folder, other, KEY, "no backup of a vault")

    newer = tmp_path / "newer.db"
    shutil.copy2(good, newer)
    with sqlite3.connect(newer) as plain:
        plain.execute("UPDATE schema_version SET version = 99, oldest_release = 99")
    plain.close()
    await _refused(folder, newer, KEY, "install the newer release")

    with sqlite3.connect(folder / FILE_NAME) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT COUNT(*) FROM keys").fetchone()
        with pytest.raises(StateError, match="in use by another process"):
            await restore(good, folder, KEY, now=NOW)
    reader.close()
    async with opened(folder) as vault:
        assert len(vault.connections()) == 1
        assert not vault.is_copy


async def test_a_copied_file_with_its_log_can_be_restored(tmp_path: Path) -> None:
    """A ``vault.db`` copied with its log beside it is restored whole, the last commits included."""
    async with opened(tmp_path / "d") as vault:
        await vault.save_connection("slack", "work", TOKENS)
        for side in ("", "-wal"):
            shutil.copy2(tmp_path / "d" / f"{FILE_NAME}{side}", tmp_path / f"raw.db{side}")
    assert (tmp_path / "raw.db-wal").stat().st_size > 0
    done = await restore(tmp_path / "raw.db", tmp_path / "e", KEY, now=NOW)
    assert done.connections == 1
    async with opened(tmp_path / "e") as vault:
        assert vault.is_copy
        assert len(vault.connections()) == 1


async def test_the_first_release_s_backup_is_brought_forward(tmp_path: Path) -> None:
    """A vault of an older schema is brought to this one's in the copy, never in the file that was given (R149)."""
    folder = tmp_path / "d"
    await _made(folder)
    old = tmp_path / "old.db"
    back_up(folder, old)
    before = old.read_bytes()
    await restore(old, tmp_path / "e", KEY, now=NOW)
    assert old.read_bytes() == before


async def test_a_file_that_would_run_something_is_refused(tmp_path: Path) -> None:
    """A trigger, also one hidden as a table, a view or a virtual table in the file refuses it before it is used."""
    await _made(tmp_path / "d")
    back_up(tmp_path / "d", tmp_path / "backup.db")
    trigger = "CREATE TRIGGER t AFTER UPDATE ON changes BEGIN DELETE FROM keys; END"
    hide = "UPDATE sqlite_master SET type = 'table', tbl_name = name WHERE name = 't'"
    for number, tricks in enumerate(
        [
            [trigger],
            [trigger, "PRAGMA writable_schema = ON", hide],
            ["CREATE VIEW v AS SELECT 1"],
            ["CREATE VIRTUAL TABLE v USING fts5 (x)"],
        ]
    ):
        hostile = shutil.copy(tmp_path / "backup.db", tmp_path / f"hostile{number}.db")
        with sqlite3.connect(hostile, isolation_level=None) as plain:
            for trick in tricks:
                plain.execute(trick)
        plain.close()
        with pytest.raises((StateError, StoreError), match=r"triggers or views|is damaged"):
            await restore(hostile, tmp_path / "elsewhere", KEY, now=NOW)
    assert not (tmp_path / "elsewhere" / FILE_NAME).exists()


async def test_an_old_password_and_old_sessions_do_not_come_back(tmp_path: Path) -> None:
    """A password changed since stays changed, and no browser is signed in by a copied vault; into an empty folder the password comes along."""
    clock = Clock()
    async with opened(tmp_path / "d", clock=clock) as vault:
        await vault.set_password("seen by somebody", actor="test")
        await vault.add_session(Secret("stolen"), expires_at=NOW + 9000, actor="test")
        shutil.copy(tmp_path / "d" / FILE_NAME, tmp_path / "copied.db")
        shutil.copy(tmp_path / "d" / f"{FILE_NAME}-wal", tmp_path / "copied.db-wal")
        clock.now += 60
        await vault.set_password("new", actor="test")
    done = await restore(tmp_path / "copied.db", tmp_path / "d", KEY, now=NOW)
    fresh = await restore(tmp_path / "copied.db", tmp_path / "elsewhere", KEY, now=NOW)
    assert (done.password_kept, fresh.password_kept) == (True, False)
    async with opened(tmp_path / "d") as vault, opened(tmp_path / "elsewhere") as other:
        assert (await vault.password(), await other.password()) == ("new", "seen by somebody")
        assert await vault.signed_in(Secret("stolen")) is None
        assert await other.signed_in(Secret("stolen")) is None
