"""Rows that say who may do what: what somebody writes into the database without the master key is not in force."""

from pathlib import Path

import pytest
from support.stores import VaultPlace
from support.vaults import NOW, Clock, key_record

from proxy.admintokens import TokenRecord
from proxy.connectors.rowseals import GUARDED, Refused
from proxy.connectors.users import Account
from proxy.connectors.vault import Vault
from proxy.errors import ConflictError
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")
SESSION, OTHER = Secret("session-of-a-browser"), Secret("session-of-another")
TOKEN = TokenRecord("tok_1", "ci", b"\x01" * 32, frozenset({"read"}), created_at=NOW)


async def filled(vault: Vault) -> str:
    """One row in every table that is guarded; the key's id."""
    record = key_record()[0]
    await vault.add_key(record)
    await vault.add_admin_token(TOKEN, actor="test")
    await vault.add_password("scrypt$1", actor="test")
    await vault.add_user("eve", "viewer", email="eve@example.com", stored="scrypt$2", actor="test")
    await vault.add_session(SESSION, "eve", expires_at=NOW + 3600, actor="test")
    await vault.add_session(OTHER, expires_at=NOW + 3600, actor="test")
    return record.key_id


async def in_force(vault: Vault) -> dict[str, object]:
    """What each table grants now."""
    signed_in = await vault.signed_in(SESSION)
    return {
        "keys": list(vault.keys()),
        "admin_tokens": [one.token_id for one in await vault.admin_tokens()],
        "admin": await vault.password(),
        "users": [(one.name, one.role) for one in await vault.users()],
        "sessions": None if signed_in is None else (signed_in.user, signed_in.role),
    }


CHANGES = {
    "keys": ("UPDATE keys SET permits = '[\"*\"]'", "keys", []),
    "a key's expiry": ("UPDATE keys SET expires_at = NULL, rate = '1000/s'", "keys", []),
    "admin_tokens": ("UPDATE admin_tokens SET scopes = '[\"keys:write\"]'", "admin_tokens", []),
    "admin": ("UPDATE admin SET password = 'scrypt$mine'", "admin", None),
    "a user's role": ("UPDATE users SET role = 'admin'", "sessions", None),
    "a user's address": ("UPDATE users SET email = 'mallory@example.com'", "users", []),
    "a session's user": ("UPDATE sessions SET user_name = 'admin'", "sessions", None),
    "a session's end": ("UPDATE sessions SET expires_at = expires_at + 1", "sessions", None),
    "a seal of another row": (
        "UPDATE sessions SET row_seal = (SELECT row_seal FROM admin), row_seal_key_id = (SELECT row_seal_key_id FROM admin)",
        "sessions",
        None,
    ),
    "no seal": ("UPDATE admin_tokens SET row_seal = NULL, row_seal_key_id = NULL", "admin_tokens", []),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_row_changed_in_the_database_is_refused(place: VaultPlace, change: str) -> None:
    """A key widened, a role raised, a password or session replaced behind our back grants nothing, and is told."""
    statement, what, left = CHANGES[change]
    async with place.opened(clock=Clock(NOW)) as vault:
        await filled(vault)
        assert (await in_force(vault))[what] != left
    place.run(f"{statement};\nUPDATE keys SET last_used_at = 5")
    async with place.opened(clock=Clock(NOW)) as vault:
        told: list[Refused] = []
        vault.tell_refused(told.append)
        after = await in_force(vault)
        assert after[what] == left
        mallory = Account("https://idp.example", "client", "mallory")
        assert await vault.recognise("mallory@example.com", mallory) is None
        assert {one.table for one in await vault.refused_rows()} >= {one.table for one in told} != set()


async def test_a_row_changed_while_we_run_is_refused(place: VaultPlace) -> None:
    """What is in memory is replaced only by what is genuine: a widened key is out of force once it is read (R89)."""
    async with place.opened() as vault:
        key_id = await filled(vault)
        place.run("UPDATE keys SET permits = '[\"*\"]', sequence = 1000;\nUPDATE changes SET sequence = 1000")
        await vault.catch_up()
        assert vault.keys() == {}
        assert vault.snapshot.refused[key_id] == Refused("keys", key_id, "changed")
        with pytest.raises(ConflictError, match="vault sign"):
            await vault.rename_key(key_id, "other")
        assert await vault.revoke_key(key_id)
        assert [one.row for one in await vault.refused_rows()] == [key_id]  # nobody has vouched for it


async def test_all_that_we_write_is_genuine(place: VaultPlace) -> None:
    """Renaming, revoking, roles, passwords, last uses: rows stay in force for every process, after rotation too (R137)."""
    async with place.opened(clock=Clock(NOW)) as vault, place.opened(clock=Clock(NOW)) as other:
        key_id = await filled(vault)
        second = key_record("second")[0]
        await vault.add_key(second)
        await vault.rename_key(key_id, "renamed")
        await vault.touch_keys({key_id: NOW})
        await vault.note_token_use(TOKEN, NOW)
        await vault.change_role("eve", "operator", actor="test")
        await vault.rotate()
        assert await vault.refused_rows() == await other.refused_rows() == ()
        await other.catch_up()
        assert await in_force(other) == await in_force(vault)
        assert (await in_force(other))["sessions"] == ("eve", "operator")
        await other.set_user_password("eve", "scrypt$3", actor="test")
        await other.set_password("scrypt$4", actor="test")
        await other.revoke_admin_token(TOKEN.token_id, actor="test")
        assert await other.revoke_all() == 2
        assert await vault.refused_rows() == ()
        await vault.catch_up()
        assert all(one.revoked_at is not None for one in vault.keys().values())


async def test_signing_vouches_for_rows_as_they_are(place: VaultPlace) -> None:
    """What an older release wrote is in force once an operator has signed it; the audit names the rows."""
    async with place.opened(clock=Clock(NOW)) as vault:
        key_id = await filled(vault)
        place.run(
            "UPDATE keys SET row_seal = NULL, row_seal_key_id = NULL, sequence = 1000;\nUPDATE changes SET sequence = 1000"
        )
        await vault.catch_up()
        assert vault.keys() == {}
        assert [str(one) for one in await vault.sign_rows()] == [str(Refused("keys", key_id, "unsigned"))]
        assert list(vault.keys()) == [key_id]
        assert await vault.refused_rows() == ()
        entry = (await vault.audit())[0]
        assert (entry.action, entry.detail) == ("vault.sign", {"rows": [f"keys {key_id}"]})


async def test_rows_from_before_seals_are_taken_as_they_are_once(place: VaultPlace) -> None:
    """The first start with seals signs what is there; later nobody can make it happen again by erasing the note alone."""
    async with place.opened(clock=Clock(NOW)) as vault:
        await filled(vault)
        granted = await in_force(vault)
    bare = ";\n".join(f"UPDATE {table} SET row_seal = NULL, row_seal_key_id = NULL" for table in GUARDED)  # noqa: S608  # our own names
    place.run(f"{bare};\nDELETE FROM row_seals")
    async with place.opened(clock=Clock(NOW)) as vault:
        assert await in_force(vault) == granted
        assert (await vault.audit())[0].action == "vault.sign_first"
    place.run("UPDATE users SET row_seal = NULL, row_seal_key_id = NULL;\nDELETE FROM row_seals")
    async with place.opened(clock=Clock(NOW)) as vault:
        assert [one.table for one in await vault.refused_rows()] == ["users"]


def test_every_table_of_access_is_guarded() -> None:
    """The tables that say who may do what, by their names in the schema; a new one has to be thought of here."""
    schema = (Path(__file__).parents[2] / "proxy/connectors/schema.py").read_text()
    others = {
        "changes", "data_keys", "canary", "connections", "audit", "identity", "refreshes", "registrations", "flows",
        "notices", "idempotency", "row_seals", "audit_chain", "observed", "key_days",
    }  # fmt: skip
    made = {
        line.split("CREATE TABLE ")[1].split()[0] for line in schema.splitlines() if "CREATE TABLE " in line
    }
    assert made == others | set(GUARDED)
