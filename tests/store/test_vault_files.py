"""The files of a vault in a data folder: who may read them, what stands in them, the key beside them."""

import asyncio
import shutil
import sqlite3
import stat
import sys
from pathlib import Path

import pytest
from support.vaults import (
    CANARY,
    CATALOG,
    MASTER,
    REFRESH,
    Clock,
    key_file,
    key_record,
    opened,
    tokens_of,
)

from proxy.connectors.masterkey import GivenKey, KeyCommand, KeyFile
from proxy.connectors.vault import Vault
from proxy.errors import StateError
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")


def _edit(folder: Path, statement: str, *params: object) -> None:
    with sqlite3.connect(folder / "vault.db") as plain:
        plain.execute(statement, params)
    plain.close()


async def test_files_are_ours_alone(tmp_path: Path) -> None:
    """Folder 0700; database, log, shared memory and master key 0600, while open, whatever the umask (R142)."""
    folder = tmp_path / "d"
    async with opened(folder, key=key_file(folder)) as vault:
        await vault.save_connection("slack", "work", tokens_of())
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert vault.notices == ()
    names = ("vault.db", "vault.db-wal", "vault.db-shm", "vault.latest", "master.key")
    assert modes == dict.fromkeys(names, 0o600)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_files_open_to_others_are_told(tmp_path: Path) -> None:
    """An open folder is told; an open database is closed to others and told (R142)."""
    folder = tmp_path / "d"
    async with opened(folder):
        pass
    folder.chmod(0o755)
    (folder / "vault.db").chmod(0o644)
    async with opened(folder) as vault:
        assert [word in notice for word, notice in zip(("0755", "0644"), vault.notices, strict=True)] == [
            True,
            True,
        ]
    assert stat.S_IMODE((folder / "vault.db").stat().st_mode) == 0o600


def _bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.name != "master.key")


async def test_no_plaintext_ever_reaches_the_disk(tmp_path: Path) -> None:
    """Neither tokens nor keys stand in any file in any moment: database, log, shared memory (R143, R144)."""
    folder = tmp_path / "d"
    record, key = key_record()
    async with opened(folder, key=key_file(folder)) as vault:
        for name in ("one", "two", "one"):
            await vault.save_connection("slack", name, tokens_of())
            assert CANARY.encode() not in _bytes_of(folder)
        await vault.add_key(record)
        on_disk = _bytes_of(folder)
        await vault.remove("slack", "one")
        on_disk += _bytes_of(folder)
    on_disk += _bytes_of(folder)
    assert b"backend" in on_disk  # the names that may stand there do
    for secret in (CANARY, REFRESH, key.reveal(), (folder / "master.key").read_text().strip()):
        assert secret.encode() not in on_disk


async def test_removed_ciphertext_is_gone_from_the_files(tmp_path: Path) -> None:
    """After removing or renewing a connection its old sealed bytes stand in no file (R144)."""
    folder = tmp_path / "d"
    async with opened(folder) as vault:

        async def sealed(name: str) -> bytes:
            async with vault._store.snapshot() as reading:
                rows = await reading.fetch("SELECT access_token FROM connections WHERE name = $1", name)
            return bytes(rows[0]["access_token"])

        for name in ("renewed", "removed"):
            await vault.save_connection("slack", name, tokens_of())
        old = [await sealed("renewed"), await sealed("removed")]
        assert all(blob in _bytes_of(folder) for blob in old)
        await vault.save_connection("slack", "renewed", tokens_of())
        await vault.remove("slack", "removed")
        assert [blob in _bytes_of(folder) for blob in old] == [False, False]


async def test_erasing_waits_for_a_reader_elsewhere(tmp_path: Path) -> None:
    """A reader in another process may hold old bytes up; they go when it is done, at the next look (R144)."""
    folder = tmp_path / "d"
    async with opened(folder) as vault:
        await vault.save_connection("slack", "work", tokens_of())
        other = sqlite3.connect(folder / "vault.db", isolation_level=None)
        other.execute("BEGIN")
        other.execute("SELECT * FROM connections").fetchall()
        await vault.remove("slack", "work")
        assert (folder / "vault.db-wal").stat().st_size > 0
        other.execute("COMMIT")
        other.close()
        await vault.catch_up()
        assert (folder / "vault.db-wal").stat().st_size == 0


async def test_a_missing_master_key_is_not_replaced(tmp_path: Path) -> None:
    """A lost key file stops the start and no new one is made over sealed rows; put back, all is well (R138)."""
    folder = tmp_path / "d"
    async with opened(folder, key=key_file(folder)) as vault:
        await vault.save_connection("slack", "work", tokens_of())
    (folder / "master.key").rename(tmp_path / "aside")
    with pytest.raises(StateError, match=r"master\.key is missing.*from your backup"):
        await Vault.open(folder, key_file(folder), catalog=CATALOG, clock=Clock())
    assert not (folder / "master.key").exists()
    (tmp_path / "aside").rename(folder / "master.key")
    async with opened(folder, key=key_file(folder)) as vault:
        assert vault.snapshot.credentials["slack", None].access_token == Secret(CANARY)


async def test_a_key_file_may_be_forbidden_to_be_made(tmp_path: Path) -> None:
    """Where creating is off (a container without a mount), an empty vault without a key stops the start."""
    folder = tmp_path / "d"
    with pytest.raises(StateError, match="none may be created here"):
        await Vault.open(folder, KeyFile(folder / "master.key", create=False), catalog=CATALOG, clock=Clock())
    assert not (folder / "master.key").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
async def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """A master key that others may read or write stops the start and says how to mend it (R159)."""
    folder = tmp_path / "d"
    async with opened(folder, key=key_file(folder)):
        pass
    (folder / "master.key").chmod(mode)
    with pytest.raises(StateError, match="chmod 600"):
        await Vault.open(folder, key_file(folder), catalog=CATALOG, clock=Clock())


async def test_first_starts_at_the_same_time_agree(tmp_path: Path) -> None:
    """Several first openings of an empty folder at once end up with one key and one vault (R138)."""
    folder = tmp_path / "d"
    vaults = await asyncio.gather(
        *(Vault.open(folder, key_file(folder), catalog=CATALOG, clock=Clock()) for _ in range(4))
    )
    await vaults[0].save_connection("slack", "work", tokens_of())
    for vault in vaults:
        await vault.catch_up()
        assert vault.snapshot.credentials["slack", None].access_token == Secret(CANARY)
        await vault.close()
    assert [path.name for path in folder.glob(".master*")] == []


async def test_the_master_key_may_come_from_a_command(tmp_path: Path) -> None:
    """A command's output is the key; a failing one stops the start without telling what it printed (R136)."""
    code = f"print('{MASTER.reveal()}')"
    key = KeyCommand((sys.executable, "-c", code), {})
    async with opened(tmp_path / "d", key=key) as vault:
        await vault.save_connection("slack", "work", tokens_of())
    async with opened(tmp_path / "d", key=GivenKey(MASTER)) as vault:
        assert len(vault.connections()) == 1
    failing = KeyCommand(
        (sys.executable, "-c", "import sys; print('sesame', file=sys.stderr); sys.exit(7)"), {}
    )
    with pytest.raises(StateError, match="master key command failed with exit status 7") as caught:
        await Vault.open(tmp_path / "d", failing, catalog=CATALOG, clock=Clock())
    assert "sesame" not in str(caught.value)


async def test_a_copied_folder_opens_with_the_key_alone(tmp_path: Path) -> None:
    """The files of a stopped vault, elsewhere, open with the master key and nothing else (R145)."""
    async with opened(tmp_path / "d") as vault:
        await vault.save_connection("slack", "work", tokens_of())
    shutil.copytree(tmp_path / "d", tmp_path / "copy")
    async with opened(tmp_path / "copy") as vault:
        assert vault.snapshot.credentials["slack", None].access_token == Secret(CANARY)


async def test_numbers_that_went_back_are_noticed(tmp_path: Path) -> None:
    """Should the store's sequence fall (an older state came back), everything is read again, not just newer rows."""
    folder = tmp_path / "d"
    async with opened(folder) as vault:
        await vault.save_connection("slack", "old", tokens_of("xoxp-old"))
        await vault.save_connection("slack", "new", tokens_of("xoxp-new"))
        _edit(folder, "DELETE FROM connections WHERE name = 'new'")
        _edit(folder, "UPDATE changes SET sequence = 1")
        await vault.catch_up()
        assert [one.name for one in vault.connections()] == ["old"]


async def test_a_key_file_that_cannot_be_used(tmp_path: Path) -> None:
    """A folder in the key file's place, or an empty file, stops the start with the reason."""
    (tmp_path / "folder").mkdir(mode=0o700)
    with pytest.raises(StateError, match="cannot be read: Is a directory"):
        await Vault.open(tmp_path / "d", KeyFile(tmp_path / "folder"), catalog=CATALOG, clock=Clock())
    (tmp_path / "empty").touch(0o600)
    with pytest.raises(StateError, match="not 32 bytes"):
        await Vault.open(tmp_path / "d", KeyFile(tmp_path / "empty"), catalog=CATALOG, clock=Clock())
    with pytest.raises(StateError, match="cannot be made: No such file"):
        await Vault.open(tmp_path / "d", KeyFile(tmp_path / "none" / "key"), catalog=CATALOG, clock=Clock())
