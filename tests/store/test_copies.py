"""A vault knows whether it is the original: copies and older states refresh nothing until they are adopted."""

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from support.stores import SqlitePlace, VaultPlace
from support.vaults import NOW, opened

from proxy.connectors import place as places
from proxy.connectors.model import Tokens
from proxy.connectors.sqlite import FILE_NAME
from proxy.connectors.vault import Vault
from proxy.errors import StoreError
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")
KILLED = textwrap.dedent(
    """
    import asyncio, os, signal, sys
    from pathlib import Path
    from proxy.connectors.sqlite import SqliteStore
    from proxy.connectors.store import next_sequence

    async def main():
        store = await SqliteStore.open(Path(sys.argv[1]))
        async with store.transaction() as writing:
            await next_sequence(writing)
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(main())
    """
)
TOKENS = Tokens(Secret("xoxp-access"), Secret("xoxp-refresh"), NOW + 3600)


async def _made(folder: Path, *names: str) -> None:
    async with opened(folder) as vault:
        for name in names or ("work",):
            await vault.save_connection("slack", name, TOKENS)


async def _is_copy(folder: Path) -> bool:
    async with opened(folder) as vault:
        return vault.is_copy


def _swap_by_rename(old: Path, new: Path) -> None:
    """As editors and unpacking tools put a file in place: a new one under the old name."""
    shutil.copy2(old, new.with_name("aside"))
    new.with_name("aside").replace(new)


def _write_over(old: Path, new: Path) -> None:
    """As ``cp`` does: the same file, other bytes."""
    new.write_bytes(old.read_bytes())


def _by_sqlite(old: Path, new: Path) -> None:
    """As ``sqlite3 vault.db '.restore old'`` does."""
    with sqlite3.connect(old) as source, sqlite3.connect(new) as target:
        source.backup(target)
    source.close()
    target.close()


async def test_a_copied_folder_is_a_copy(tmp_path: Path) -> None:
    """A folder copied with all times and rights kept is a copy, and the original stays the original."""
    await _made(tmp_path / "d")
    shutil.copytree(tmp_path / "d", tmp_path / "copy")
    assert await _is_copy(tmp_path / "copy")
    assert not await _is_copy(tmp_path / "d")


@pytest.mark.parametrize("put_back", [_swap_by_rename, _write_over, _by_sqlite])
async def test_an_older_state_put_back_is_a_copy(
    tmp_path: Path, put_back: Callable[[Path, Path], None]
) -> None:
    """A file of before the last change is recognised in the vault's own place, however it came there."""
    folder = tmp_path / "d"
    await _made(folder)
    shutil.copy2(folder / FILE_NAME, tmp_path / "old")
    await _made(folder, "later")
    put_back(tmp_path / "old", folder / FILE_NAME)
    assert await _is_copy(folder)
    assert await _is_copy(folder), "looking once must not make it forget"
    await _made(folder, "one", "two", "three")
    assert await _is_copy(folder), "changes beyond the number noted must not hide it"


async def test_a_vault_that_comes_home_from_elsewhere_is_a_copy(tmp_path: Path) -> None:
    """A copy that was adopted and went further elsewhere is a copy again where the original lay."""
    await _made(tmp_path / "d")
    shutil.copytree(tmp_path / "d", tmp_path / "e")
    async with opened(tmp_path / "e") as vault:
        assert await vault.adopt()
        for name in ("one", "two"):
            await vault.save_connection("slack", name, TOKENS)
    _write_over(tmp_path / "e" / FILE_NAME, tmp_path / "d" / FILE_NAME)
    assert await _is_copy(tmp_path / "d")


@pytest.mark.parametrize(
    "event", ["nothing", "moved", "vacuum", "killed", "note lost", "note damaged", "chmod"]
)
async def test_what_happens_to_an_original_leaves_it_one(tmp_path: Path, event: str) -> None:
    """Restart, another path on the disk, VACUUM, recovery of the log, a lost note, chmod: none makes a copy."""
    folder = tmp_path / "d"
    await _made(folder)
    match event:
        case "moved":
            folder = (tmp_path / "d").rename(tmp_path / "e")
        case "vacuum":
            with sqlite3.connect(folder / FILE_NAME, isolation_level=None) as plain:
                plain.execute("VACUUM")
            plain.close()
        case "killed":
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(folder))
            assert await process.wait() == -signal.SIGKILL
            assert (folder / f"{FILE_NAME}-wal").stat().st_size > 0
        case "note lost":
            (folder / places.NOTE_NAME).unlink()
        case "note damaged":
            (folder / places.NOTE_NAME).write_bytes(b"\xff" * 300)
        case "chmod":
            os.utime(folder / FILE_NAME, (0, 0))
            folder.chmod(0o700)
    assert not await _is_copy(folder)


async def test_a_new_vault_in_an_old_folder_is_no_copy(tmp_path: Path) -> None:
    """Who deletes the vault's file and starts anew has an original, whatever was noted of the file before."""
    folder = tmp_path / "d"
    await _made(folder, "one", "two", "three")
    (folder / FILE_NAME).unlink()
    assert not await _is_copy(folder)


async def test_an_older_state_under_a_running_server_is_noticed(tmp_path: Path) -> None:
    """SQLite's own restore into a vault in use freezes it in every process at the next look for changes."""
    folder = tmp_path / "d"
    await _made(folder)
    shutil.copy2(folder / FILE_NAME, tmp_path / "old")
    async with opened(folder) as vault:
        await vault.save_connection("slack", "later", TOKENS)
        _by_sqlite(tmp_path / "old", folder / FILE_NAME)
        await vault.catch_up()
        assert vault.is_copy
        assert [(one.name, one.state, one.cause) for one in vault.connections()] == [
            ("work", "frozen", "copy")
        ]


async def test_a_file_replaced_under_a_running_server_is_not_written(tmp_path: Path) -> None:
    """Where the file was swapped for another, writing and looking fail: no change goes into a file that is gone."""
    folder = tmp_path / "d"
    await _made(folder)
    shutil.copy2(folder / FILE_NAME, tmp_path / "old")
    async with opened(folder) as vault:
        _swap_by_rename(tmp_path / "old", folder / FILE_NAME)
        with pytest.raises(StoreError, match="replaced while it is in use"):
            await vault.save_connection("slack", "later", TOKENS)
        with pytest.raises(StoreError, match="replaced while it is in use"):
            await vault.catch_up()
    assert await _is_copy(folder)


async def test_a_time_of_making_that_is_not_known_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system does not tell when a file was made, its number alone decides, then and later."""
    with monkeypatch.context() as blind:
        blind.setattr(places, "_born_ns", lambda _path, _status: None)
        await _made(tmp_path / "d")
        assert not await _is_copy(tmp_path / "d")
    assert not await _is_copy(tmp_path / "d")
    assert not places.is_same_place("sqlite:7:10", "sqlite:7:11")
    assert not places.is_same_place("sqlite:7:-", "sqlite:8:-")
    assert not places.is_same_place("backup", "sqlite:8:-")


def test_files_made_one_after_the_other_are_told_apart(tmp_path: Path) -> None:
    """A file under the same name, and often with the same inode number, has another identity than the one before."""
    path = tmp_path / "file"
    seen = set()
    for _ in range(20):
        path.write_bytes(b"")
        seen.add(places.place_of(path))
        path.unlink()
    assert len(seen) == 20


async def _states(vault: Vault) -> list[tuple[str, str | None]]:
    return sorted((one.state, one.cause) for one in vault.connections())


async def test_a_copy_serves_and_says_so_until_it_is_adopted(place: VaultPlace, tmp_path: Path) -> None:
    """On both stores: a clone serves living tokens, lists its connections as frozen, warns, and can be adopted."""
    async with place.opened() as original:
        await original.save_connection("slack", "work", TOKENS)
        await original.save_connection("slack", "off", TOKENS)
        await original.freeze("slack", "off")
        assert not original.is_copy
    clone = place.copied(tmp_path / "clone")
    async with clone.opened() as vault, clone.opened() as server:
        assert vault.is_copy
        assert any("vault adopt" in notice for notice in vault.notices)
        assert await _states(vault) == [("frozen", "copy"), ("frozen", "operator")]
        assert vault.states() == {"frozen": 2}
        assert vault.snapshot.credentials["slack", "work"].access_token == Secret("xoxp-access")
        assert await vault.adopt(actor="ann")
        await server.catch_up()
        assert not server.is_copy, "every process takes an adoption in with the next change that it sees"
        assert await _states(server) == [("active", None), ("frozen", "operator")]
        assert not await server.adopt(), "what is the original needs no adoption"
        adoption = (await server.audit())[0]
        assert (adoption.action, adoption.actor) == ("vault.adopt", "ann")
    async with clone.opened() as again:
        assert not again.is_copy
        assert again.notices == ()
    async with place.opened() as original:
        assert not original.is_copy


async def test_the_note_costs_no_commit(tmp_path: Path) -> None:
    """A note that cannot be written (a full disk, a folder that is read-only) leaves commits as they are (R150)."""
    folder = tmp_path / "d"
    await _made(folder)
    async with SqlitePlace(folder).opened() as vault:
        (folder / places.NOTE_NAME).unlink()
        (folder / places.NOTE_NAME).mkdir()
        await vault.save_connection("slack", "later", TOKENS)
    async with SqlitePlace(folder).opened() as vault:
        assert {one.name for one in vault.connections()} == {"work", "later"}
        assert not vault.is_copy
