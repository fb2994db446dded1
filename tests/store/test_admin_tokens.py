"""Admin tokens and answers that may be asked for again, in both stores."""

from dataclasses import replace

import pytest
from support.stores import VaultPlace
from support.vaults import NOW, Clock

from proxy import admintokens
from proxy.admintokens import TokenRecord, grants, token_id_of
from proxy.connectors.model import Tokens
from proxy.errors import ConflictError, MissingError
from proxy.keys import digest, is_well_formed
from proxy.secret import Secret

pytestmark = pytest.mark.usefixtures("runner")


def made(name: str = "ci", **more: float) -> tuple[TokenRecord, Secret]:
    token_id, token = admintokens.generate()
    read = frozenset[admintokens.Scope]({"read"})
    record = TokenRecord(token_id, name, digest(token.reveal().encode()), read, created_at=NOW)
    return replace(record, **more), token  # type: ignore[arg-type]  # times only


def test_tokens_have_a_form_of_their_own() -> None:
    """A token is known by prefix and checksum, and is no proxy key; a scope grants itself, admin all of them."""
    token_id, token = admintokens.generate()
    text = token.reveal()
    assert token_id_of(text) == token_id
    assert not is_well_formed(text.encode())
    for wrong in (
        text[:-1],
        text[:-1] + ("0" if text[-1] != "0" else "1"),
        "cpk" + text[3:],
        text + "\n",
        "",
    ):
        assert token_id_of(wrong) is None
    assert grants(frozenset({"read"}), ("read", "keys:write"))
    assert not grants(frozenset({"keys:write"}), ("read",))
    assert grants(frozenset({"admin"}), ("read",))


async def test_a_token_is_kept_as_a_hash_and_revoked_everywhere(place: VaultPlace) -> None:
    """Another process knows a token at once and its revocation at once; the token is stored nowhere (R93, R157)."""
    async with place.opened() as vault, place.opened() as other:
        record, token = made()
        await vault.add_admin_token(record, actor="ann")
        assert await other.admin_token(record.token_id) == record
        assert await other.admin_token("00000000") is None
        with pytest.raises(ConflictError):
            await other.add_admin_token(made()[0], actor="ann")
        assert token.reveal() not in place.run("SELECT * FROM admin_tokens")
        await other.note_token_use(record, NOW + 5)
        assert await other.revoke_admin_token(record.token_id, actor="bob")
        assert not await vault.revoke_admin_token(record.token_id, actor="bob")
        (found,) = await vault.admin_tokens()
        assert (found.last_used_at, found.is_live(NOW + 9)) == (NOW + 5, False)
        with pytest.raises(MissingError):
            await vault.revoke_admin_token("00000000", actor="bob")
        told = [(one.actor, one.action, one.subject) for one in await vault.audit()]
    assert ("ann", "token.create", record.token_id) in told
    assert ("bob", "token.revoke", record.token_id) in told


async def test_a_name_is_free_once_its_token_has_ended(place: VaultPlace) -> None:
    """Expired and revoked tokens do not keep their names."""
    clock = Clock()
    async with place.opened(clock=clock) as vault:
        await vault.add_admin_token(made(expires_at=NOW + 10)[0], actor="ann")
        clock.now = NOW + 11
        record, _ = made()
        await vault.add_admin_token(record, actor="ann")
        await vault.revoke_admin_token(record.token_id, actor="ann")
        await vault.add_admin_token(made()[0], actor="ann")
        assert len(await vault.admin_tokens()) == 3


async def test_uses_are_written_to_the_minute(place: VaultPlace) -> None:
    """Reading does not become writing: a second use within a minute leaves the row as it was."""
    async with place.opened() as vault:
        record, _ = made(last_used_at=NOW)
        await vault.add_admin_token(record, actor="ann")
        await vault.note_token_use(record, NOW + 59)
        assert (await vault.admin_tokens())[0].last_used_at is None
        await vault.note_token_use(record, NOW + 60)
        assert (await vault.admin_tokens())[0].last_used_at == NOW + 60


async def test_one_request_gets_an_idempotency_key(place: VaultPlace) -> None:
    """The first claim wins in whichever process, its answer is found by the others, and it ends with its time."""
    clock = Clock()
    async with place.opened(clock=clock) as vault, place.opened(clock=clock) as other:
        assert await vault.claim_creation(b"key", b"request", expires_at=NOW + 120) is None
        found = await other.claim_creation(b"key", b"another", expires_at=NOW + 120)
        assert found is not None
        assert (found.request_digest, found.sealed) == (b"request", None)
        await vault.answer_creation(b"key", b"sealed", expires_at=NOW + 1000)
        await vault.drop_claim(b"key")
        found = await other.claim_creation(b"key", b"request", expires_at=NOW + 120)
        assert found is not None
        assert found.sealed == b"sealed"
        clock.now = NOW + 1001
        assert await other.claim_creation(b"key", b"request", expires_at=NOW + 1200) is None
        await other.drop_claim(b"key")
        assert await vault.claim_creation(b"key", b"third", expires_at=NOW + 1200) is None


async def test_all_connections_stop_and_go_on(place: VaultPlace) -> None:
    """One change freezes every connection in use for every process; thawing spares what was not stopped by hand."""
    async with place.opened() as vault, place.opened() as other:
        for name in ("a", "b", "c"):
            await vault.save_connection("slack", name, Tokens(Secret("xoxb-1")))
        await vault.freeze("slack", "c")
        place.run(
            "UPDATE connections SET state = 'reauthorization_required', cause = 'revoked' WHERE name = 'b'"
        )
        assert await vault.freeze_all(actor="ann") == 1
        await other.catch_up()
        states = {one.name: one.state for one in other.connections()}
        assert states["a"] == "frozen"
        assert await other.freeze_all(frozen=False, actor="ann") == 2
        assert [one.state for one in other.connections() if one.name in {"a", "c"}] == ["active", "active"]
        assert ("ann", "connection.freeze_all", {"count": 1}) in [
            (one.actor, one.action, dict(one.detail)) for one in await vault.audit()
        ]
