"""Reading goes on whatever else fails: a disk that is full, rows that nobody should have written."""

import asyncio
from pathlib import Path

import pytest
from support.stores import SqlitePlace, VaultPlace
from support.vaults import key_record, tokens_of

from proxy.connectors.snapshot import DAMAGED
from proxy.connectors.vault import Vault
from proxy.errors import StoreError
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")

EDITS = {
    "no-json": "scopes = 'oops'",
    "no-array": "scopes = '5'",
    "no-strings": "scopes = '[1]'",
    "no-object": "metadata = '[]'",
    "endless": f"metadata = '{'[' * 100_000}'",
    "asked": "asked_scopes = '{'",
}
SQLITE_EDITS = {  # where a column takes whatever it is given
    "no-time": "created_at = 'yesterday'",
    "no-number": "generation = 'second'",
    "no-bytes": "access_token = 'text'",
    "no-text": "state = x'00ff'",
}


async def test_what_cannot_be_erased_yet_keeps_no_change_out(
    place: VaultPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk a revocation made elsewhere is taken in all the same, and erased is once it can be (R144, R150, R153)."""
    async with place.opened() as vault, place.opened() as other:
        record, _ = key_record()
        await vault.add_key(record)
        await vault.save_connection("slack", "work", tokens_of("xoxp-1"))
        tried = 0

        async def full() -> bool:
            nonlocal tried
            tried += 1
            raise StoreError("the disk is full", reason="full")

        with monkeypatch.context() as broken:
            broken.setattr(vault.store, "scrub", full)
            await vault.save_connection("slack", "work", tokens_of("xoxp-2"))
            await other.revoke_key(record.key_id)
            await vault.catch_up()
            assert vault.keys()[record.key_id].revoked_at is not None
            await vault.catch_up()
            assert tried == 3, "it has to be tried again at each look"
        await vault.catch_up()
        if place.kind == "sqlite":
            assert (place.folder / "vault.db-wal").stat().st_size == 0


def _is_served(vault: Vault, name: str) -> bool:
    return ("slack", name) in vault.snapshot.credentials


async def test_a_row_that_cannot_be_read_fails_alone(place: VaultPlace) -> None:
    """Whatever stands in a row, its connection says so, others work on, the start succeeds, connecting mends (R140)."""
    edits = {**EDITS, **SQLITE_EDITS} if place.kind == "sqlite" else EDITS
    async with place.opened() as vault:
        for name in ("good", *edits):
            await vault.save_connection("slack", name, tokens_of(f"xoxp-{name}"))
        for name, edit in edits.items():
            place.run(f"UPDATE connections SET {edit}, sequence = 1000 WHERE name = '{name}'")  # noqa: S608  # the test's own
        place.run("UPDATE changes SET sequence = 1000")
        await vault.catch_up()
        async with place.opened() as started:
            for one in (vault, started):
                causes = {each.name: each.cause for each in one.connections()}
                assert causes == {"good": None, **dict.fromkeys(edits, DAMAGED)}
                assert {name for name in causes if _is_served(one, name)} == {"good"}
        for name in edits:
            await vault.save_connection("slack", name, tokens_of("xoxp-new"))
        assert all(_is_served(vault, name) for name in edits)


async def test_a_key_whose_seal_is_no_bytes_is_refused_alone(tmp_path: Path) -> None:
    """Text where SQLite should hold a seal puts that key out of force and costs no other (R89, R140)."""
    place = SqlitePlace(tmp_path)
    async with place.opened() as vault:
        good, bad = key_record("good")[0], key_record("bad")[0]
        for one in (good, bad):
            await vault.add_key(one)
        place.run(
            f"UPDATE keys SET row_seal = 'text', sequence = 1000 WHERE key_id = '{bad.key_id}';"  # noqa: S608  # the test's own
            "UPDATE changes SET sequence = 1000"
        )
        await vault.catch_up()
        assert set(vault.keys()) == {good.key_id}
        assert vault.snapshot.refused[bad.key_id].why == "changed"


async def test_watching_outlives_a_fault_of_ours(place: VaultPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that embeds the vault hears of later changes after an unexpected failure (R89)."""
    async with place.opened() as vault, place.opened() as other:
        changed, failed = asyncio.Event(), asyncio.Event()

        async def faulty(*_: object) -> None:
            failed.set()
            raise KeyError("column")

        with monkeypatch.context() as broken:
            broken.setattr(vault.store, "look", faulty)
            watching = asyncio.create_task(vault.watch(changed.set, interval=0.01))
            await failed.wait()
        await other.save_connection("slack", "work", tokens_of("xoxp-1"))
        await changed.wait()
        assert vault.snapshot.credentials["slack", None].access_token == Secret("xoxp-1")
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
