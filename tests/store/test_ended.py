"""Keys and admin tokens that ended long ago: their rows go, once, for every instance, and nothing comes back by it."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.stores import VaultPlace
from support.vaults import MASTER, NOW, Clock, key_record, opened

from proxy.admintokens import TokenRecord
from proxy.connectors.backup import back_up
from proxy.connectors.ended import BATCH
from proxy.connectors.masterkey import GivenKey
from proxy.connectors.restore import restore
from proxy.keys import KeyRecord

pytestmark = pytest.mark.usefixtures("runner")
DAY = 86_400.0
DAYS = 90


def key(name: str, expires_at: float | None = None) -> KeyRecord:
    return replace(key_record(name)[0], expires_at=expires_at)


def token(name: str, expires_at: float | None = None) -> TokenRecord:
    return TokenRecord(name, name, b"\x01" * 32, frozenset({"read"}), created_at=NOW, expires_at=expires_at)


async def test_what_ended_long_ago_goes_and_nothing_else(place: VaultPlace) -> None:
    """Another instance follows; what was noted of such a key goes too; keys in force and younger ends stay (R89)."""
    clock = Clock()
    old, young, living = key("run", NOW + 60), key("young", NOW + DAY), key("living")
    async with place.opened(clock=clock) as one, place.opened(clock=clock) as two:
        for record in (old, young, living):
            await one.add_key(record)
        await one.revoke_key(old.key_id)
        for made in (token("tok_old", NOW + 60), token("tok_rev"), token("tok_live")):
            await one.add_admin_token(made, actor="test")
        await one.revoke_admin_token("tok_rev", actor="test")
        await one.add_observed({(each.key_id, "slack", "GET", "/"): 1 for each in (old, living)})
        clock.now = NOW + DAYS * DAY
        assert await one.prune_ended(DAYS) == 0, "not a day too early"
        clock.now += 3600
        assert await one.prune_ended(DAYS) == 3
        assert set(one.keys()) == {young.key_id, living.key_id}
        assert [made.token_id for made in await one.admin_tokens()] == ["tok_live"]
        assert await one.observed_of(old.key_id) == ()
        assert len(await one.observed_of(living.key_id)) == 1
        written = await one.audit()
        assert {row.action: row.detail for row in written[:2]} == {
            "key.prune": {"count": 1, "ids": [old.key_id]},
            "token.prune": {"count": 2, "ids": ["tok_old", "tok_rev"]},
        }
        await two.catch_up()
        assert set(two.keys()) == set(one.keys())
        await two.touch_keys({old.key_id: clock.now})  # a use told late
        assert await two.prune_ended(DAYS) == 0
        assert await two.audit() == written
        assert (await two.verify_audit()).faults == ()


async def test_more_than_one_commit_takes(place: VaultPlace) -> None:
    """However many a year of started programs left, all of them go in one turn."""
    clock = Clock()
    async with place.opened(clock=clock) as vault:
        for at in range(BATCH + 3):
            await vault.add_admin_token(token(f"tok{at}", NOW + 60), actor="test")
        clock.now += (DAYS + 1) * DAY
        assert await vault.prune_ended(DAYS) == BATCH + 3
        assert await vault.admin_tokens() == ()


async def test_a_row_that_somebody_changed_stays_to_be_looked_at(place: VaultPlace) -> None:
    """An end written behind our back does not make the row, and the trace with it, disappear (R84)."""
    clock = Clock()
    async with place.opened(clock=clock) as vault:
        record = key("backend", NOW + 400 * DAY)
        await vault.add_key(record)
    place.run("UPDATE keys SET expires_at = 1000")
    async with place.opened(clock=clock) as vault:
        assert await vault.prune_ended(DAYS) == 0
        assert [one.row for one in await vault.refused_rows()] == [record.key_id]


async def test_a_backup_from_before_puts_no_ended_key_in_force(tmp_path: Path) -> None:
    """A revoked key without an end of its own is remembered, so a restore keeps it revoked; the others are over in it (R145)."""
    clock, folder = Clock(), tmp_path / "d"
    revoked, expired = key("revoked"), key("expired", NOW + 60)
    async with opened(folder, clock=clock) as vault:
        await vault.add_key(revoked)
        await vault.add_key(expired)
    back_up(folder, tmp_path / "backup.db")
    async with opened(folder, clock=clock) as vault:
        await vault.revoke_key(revoked.key_id)
        clock.now += (DAYS + 1) * DAY
        assert await vault.prune_ended(DAYS) == 1
    await restore(tmp_path / "backup.db", folder, GivenKey(MASTER), now=clock.now)
    async with opened(folder, clock=clock) as vault:
        assert not any(one.is_live(clock.now) for one in vault.keys().values())
        assert set(vault.keys()) == {revoked.key_id, expired.key_id}
