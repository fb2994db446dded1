"""The audit's hash chain: what it finds, what it survives, and what it cannot know (R157)."""

import asyncio
from pathlib import Path

import pytest
from support.stores import VaultPlace
from support.vaults import MASTER, NOW, OTHER_MASTER, Clock, key_record, opened, tokens_of

from proxy.connectors.audit import About, Note
from proxy.connectors.audit_log import BATCH, AuditLog, ChainReport
from proxy.connectors.backup import back_up
from proxy.connectors.masterkey import GivenKey
from proxy.connectors.restore import restore
from proxy.connectors.vault import Vault

pytestmark = pytest.mark.usefixtures("runner")
DAY = 86_400.0
LOOSE = "INSERT INTO audit (audit_id, at, actor, action, subject, detail) VALUES ('{}', {}, 'x', 'y', 'z', '{{}}')"


async def _write(vault: Vault, count: int = 6) -> None:
    for at in range(1, count + 1):
        await vault.record("ann", "token.reveal", f"slack@c{at}", {"at": at})


async def _verified(place: VaultPlace) -> ChainReport:
    async with place.opened() as vault:
        return await vault.verify_audit()


def _told(report: ChainReport) -> list[tuple[int, int, str]]:
    """First and last row of each fault, and the first word of what is said of them."""
    return [(fault.first, fault.last, fault.what.split(" ")[0].rstrip(";")) for fault in report.faults]


COPY = (
    "INSERT INTO audit (audit_id, at, actor, action, subject, detail, chained, number, hash) "
    "SELECT 'z', at, actor, action, subject, detail, chained, {}, hash FROM audit WHERE number = {}"
)
REMOVE = "DELETE FROM audit WHERE number {};"
MOVE = "UPDATE audit SET number = {} WHERE number = {};"
SHORTER = "UPDATE audit_chain SET number = 4, hash = (SELECT hash FROM audit WHERE number = 4);"
TAMPERINGS = {
    "changed": ("UPDATE audit SET actor = 'bob' WHERE number = 3", [(3, 3, "was")]),
    "changed at the end": ("UPDATE audit SET detail = '[]' WHERE number = 6", [(6, 6, "was")]),
    "antedated": ("UPDATE audit SET at = at - 1 WHERE number = 2", [(2, 2, "was")]),
    "removed": ("DELETE FROM audit WHERE number IN (3, 4)", [(3, 4, "missing")]),
    "removed at the beginning": ("DELETE FROM audit WHERE number = 1", [(1, 1, "missing")]),
    "removed at the end": ("DELETE FROM audit WHERE number >= 5", [(5, 6, "missing")]),
    "all removed": ("DELETE FROM audit", [(1, 6, "missing")]),
    "replaced": (
        REMOVE.format("= 3") + COPY.format(3, 2),
        [(3, 3, "was"), (4, 4, "was")],
    ),
    "put in": (COPY.format(3, 3), [(3, 3, "is")]),
    "put in at the end": (COPY.format(7, 6), [(7, 7, "put")]),
    "reordered": (
        MOVE.format(99, 2) + MOVE.format(2, 3) + MOVE.format(3, 99),
        [(2, 2, "was"), (3, 3, "was"), (4, 4, "was")],
    ),
    "cut off with the head": (SHORTER + REMOVE.format("> 4"), [(4, 4, "the")]),
    "head removed": ("DELETE FROM audit_chain", [(6, 6, "the")]),
}


@pytest.mark.parametrize("how", TAMPERINGS)
async def test_what_was_done_to_the_rows_is_found(place: VaultPlace, how: str) -> None:
    """Rows changed, removed, put in, moved, or cut off at the end with the head made to fit: found and named."""
    statements, faults = TAMPERINGS[how]
    async with place.opened() as vault:
        await _write(vault)
        assert (await vault.verify_audit()).faults == ()
        await asyncio.to_thread(place.run, statements)
        assert _told(await vault.verify_audit()) == faults
        await _write(vault, 1)  # life goes on, and does not cover it up
        after = await vault.verify_audit()
    assert after.fault_count >= 1
    assert (await _verified(place)).fault_count == after.fault_count


async def test_nobody_makes_rows_without_the_key(place: VaultPlace) -> None:
    """Rows chained as we do, with another key, are found: the database alone is not enough to forge."""
    async with place.opened() as vault:
        await _write(vault)
        async with vault.store.transaction() as transaction:
            await AuditLog(b"guessed").record(transaction, NOW, Note("ann", "x", "y", {}))
        assert {fault.first for fault in (await vault.verify_audit()).faults} == {7}


async def test_a_remembered_head_shows_what_was_put_back(place: VaultPlace, tmp_path: Path) -> None:
    """An earlier state with its own head is whole in itself; only a head kept elsewhere tells of what is gone."""
    async with place.opened() as vault:
        await _write(vault, 2)
        earlier = await vault.verify_audit()
        copy = await asyncio.to_thread(place.copied, tmp_path / "copy")
        await _write(vault, 2)
        later = await vault.verify_audit()
        assert (await vault.verify_audit((earlier.number, earlier.hash))).faults == ()
        assert (await vault.verify_audit((later.number, later.hash))).faults == ()
        assert _told(await vault.verify_audit((2, later.hash))) == [(2, 2, "had")]
    async with copy.opened() as vault:
        assert (await vault.verify_audit()).faults == ()
        assert _told(await vault.verify_audit((later.number, later.hash))) == [(3, 4, "were")]
        await vault.adopt()
        assert (await vault.verify_audit((earlier.number, earlier.hash))).faults == ()


async def test_many_write_at_once(place: VaultPlace) -> None:
    """Two instances with eight tasks each: one chain without a gap, every row in it."""
    async with place.opened() as one, place.opened() as other:
        await asyncio.gather(*(_write(vault, 4) for _ in range(8) for vault in (one, other)))
        report = await one.verify_audit()
        assert (report.faults, report.rows, report.number, report.loose) == ((), 64, 64, 0)
        assert (await other.verify_audit()).hash == report.hash


async def test_it_outlives_rotation_of_all_keys(place: VaultPlace) -> None:
    """A new data key, then a new master key: the chain is the same, and goes on."""
    async with place.opened() as vault:
        await _write(vault)
        await vault.save_connection("slack", "work", tokens_of())
        await vault.rotate()
        await vault.rewrap(OTHER_MASTER)
        await _write(vault)
    async with place.opened(key=GivenKey(OTHER_MASTER)) as vault:
        report = await vault.verify_audit()
    assert (report.faults, report.rows) == ((), 16)


async def test_a_restored_backup_goes_on_with_it(tmp_path: Path) -> None:
    """Backed up, restored, adopted: the rows of before are proven, those of after follow them (R145)."""
    async with opened(tmp_path / "d") as vault:
        await _write(vault)
        made = await asyncio.to_thread(back_up, tmp_path / "d", tmp_path / "backup.db")
    await restore(made.path, tmp_path / "e", GivenKey(MASTER), now=NOW)
    async with opened(tmp_path / "e") as vault:
        await vault.adopt()
        report = await vault.verify_audit()
    assert (report.faults, report.rows) == ((), 7)


async def test_retention_keeps_a_checkpoint(place: VaultPlace) -> None:
    """Old rows go, the rest is proven from the last one dropped; a row dropped by somebody else is missed."""
    clock = Clock()
    async with place.opened(clock=clock) as vault:
        await _write(vault, 5)
        clock.now += 100 * DAY
        await _write(vault, 5)
        assert await vault.prune_audit(90) == 5
        report = await vault.verify_audit()
        assert (report.faults, report.rows, report.pruned, report.number) == ((), 5, 5, 10)
        await asyncio.to_thread(place.run, "DELETE FROM audit WHERE number = 6")
        assert _told(await vault.verify_audit()) == [(6, 6, "missing")]


async def test_retention_hides_nothing(place: VaultPlace) -> None:
    """What was wrong with rows that retention drops is noted in a row that stays."""
    clock = Clock()
    async with place.opened(clock=clock) as vault:
        await _write(vault, 3)
        await asyncio.to_thread(place.run, "UPDATE audit SET actor = 'bob' WHERE number = 2")
        clock.now += 100 * DAY
        await vault.prune_audit(90)
        (row,) = await vault.audit()
        assert (row.action, row.detail["count"]) == ("audit.fault", 1)
        assert "row 2: was changed" in str(row.detail["dropped"])
        assert (await vault.verify_audit()).faults == ()


async def test_retention_goes_in_batches_and_loses_no_old_release(place: VaultPlace) -> None:
    """More rows than one commit takes, some from a release without the chain: all that is old goes, nothing else."""
    clock = Clock()
    async with place.opened(clock=clock) as vault:
        old = int((NOW - 1) * 1000)
        rows = ";".join(LOOSE.format(f"o{at:04}", old) for at in range(BATCH + 20))
        await asyncio.to_thread(place.run, f"BEGIN;{rows};COMMIT")
        clock.now += 100 * DAY
        await _write(vault, 2)
        assert (
            await vault.prune_audit(90) == 0
        )  # they came into the chain after newer ones, and wait for those
        report = await vault.verify_audit()
        assert (report.faults, report.late, report.rows) == ((), BATCH + 20, BATCH + 22)
        clock.now += 91 * DAY
        assert await vault.prune_audit(90) == BATCH + 22
        assert (await vault.verify_audit()).faults == ()


async def test_rows_of_an_older_release_are_told_and_taken_in(place: VaultPlace) -> None:
    """A row without a hash is counted as such, then chained as late; what is done to it afterwards is found (R149)."""
    async with place.opened() as vault:
        await _write(vault, 2)
        await asyncio.to_thread(place.run, LOOSE.format("old", int(NOW * 1000)))
        report = await vault.verify_audit()
        assert (report.faults, report.loose, report.loose_last) == ((), 1, NOW)
        await vault.prune_audit()
        report = await vault.verify_audit()
        assert (report.faults, report.loose, report.late, report.rows) == ((), 0, 1, 3)
        await asyncio.to_thread(place.run, "UPDATE audit SET actor = 'bob' WHERE audit_id = 'old'")
        assert _told(await vault.verify_audit()) == [(3, 3, "was")]
        await asyncio.to_thread(
            place.run, "UPDATE audit SET chained = 'at_once', actor = 'x' WHERE number = 3"
        )
        assert _told(await vault.verify_audit()) == [(3, 3, "was")], "nor can it pass for one of ours"


async def test_rows_are_found_by_whom_and_what_they_are_about(place: VaultPlace) -> None:
    """By key (what it did and what was done to it), user, connection, actor, action, subject, times, either way round."""
    record, clock = key_record()[0], Clock()
    async with place.opened(clock=clock) as vault:
        await vault.add_key(record, actor="user:ann")
        clock.now += 10
        await vault.record(f"service key {record.key_id}", "token.reveal", "slack@work", {})
        clock.now += 10
        await vault.record("service key other", "token.reveal", "slack@work_2", {})
        await vault.record("user:bob", "user.role", "ann", {})
        await vault.record("user:bob", "connection.save", "slac_@work", {})

        async def found(about: About) -> list[str]:
            return [
                f"{one.action} {one.subject}" for one in await vault.audit(about=about, oldest_first=True)
            ]

        made, reveal = f"key.create {record.key_id}", "token.reveal slack@work"
        assert await found(About(key=record.key_id)) == [made, reveal]
        assert await found(About(user="ann")) == [made, "user.role ann"]
        assert await found(About(connection="slack@work")) == [reveal]
        assert await found(About(connection="slack")) == [reveal, "token.reveal slack@work_2"]
        assert await found(About(connection="slac_")) == ["connection.save slac_@work"]
        assert await found(About(subject="K_2", action="token.reveal")) == ["token.reveal slack@work_2"]
        assert await found(About(actor="user:bob", subject="%")) == []
        within = await vault.audit(since=NOW + 1, until=NOW + 20)
        assert [one.subject for one in within] == ["slack@work"]
        first, *rest = await vault.audit(oldest_first=True, limit=2)
        after = await vault.audit(start=(round(first.at * 1000), first.audit_id), oldest_first=True, limit=1)
        assert list(after) == rest
