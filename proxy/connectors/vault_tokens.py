"""The vault's admin tokens, read for each request with one, and answers that may be asked for again."""

import json
from dataclasses import dataclass

from proxy.admintokens import TokenRecord
from proxy.connectors.rows import optional_ms, to_json, to_ms
from proxy.connectors.rowseals import write_if_genuine
from proxy.connectors.store import Row
from proxy.connectors.vault_users import UserVault
from proxy.errors import ConflictError, Fault, MissingError

USE_NOTED_S = 60.0  # a use is written no more often: reading must not become writing


@dataclass(frozen=True, slots=True)
class Claim:
    """What was found under an idempotency key: the digest of the request that came with it first.

    ``sealed``: its answer, for whoever can open it; None while the first request is under way.
    """

    request_digest: bytes
    sealed: bytes | None


class TokenVault(UserVault):
    """The part of the vault that knows which programs may use the admin API."""

    async def add_admin_token(self, record: TokenRecord, *, actor: str) -> None:
        """Store a new token's record.

        Raises:
            ConflictError: the name is taken among tokens in force.
            StoreError: nothing was stored.
        """
        await self._data_keys.reserve(1)
        async with self._change(actor, "token.create", record.token_id) as change:
            taken = await change.transaction.fetch(
                "SELECT token_id FROM admin_tokens WHERE name = $1 AND revoked_at IS NULL "
                "AND (expires_at IS NULL OR expires_at > $2)",
                record.name,
                to_ms(change.now),
            )
            if taken:
                raise ConflictError(
                    Fault("name", f"a token named {record.name} is in force already: revoke it first")
                )
            put = (
                "INSERT INTO admin_tokens (token_id, name, digest, scopes, created_at, expires_at) "
                "VALUES ($1, $2, $3, $4, $5, $6)"
            )
            row = (
                record.token_id,
                record.name,
                record.digest,
                to_json(sorted(record.scopes)),
                to_ms(record.created_at),
                optional_ms(record.expires_at),
            )
            await self._write(change.transaction, "admin_tokens", record.token_id, (put, *row))
            change.detail.update(name=record.name, scopes=sorted(record.scopes))

    async def admin_tokens(self) -> tuple[TokenRecord, ...]:
        """All tokens, oldest first, revoked ones too.

        Raises:
            StoreError: they cannot be read.
        """
        async with self._store.snapshot() as transaction:
            rows = await transaction.fetch("SELECT * FROM admin_tokens ORDER BY created_at, token_id")
        return tuple([_record_of(row) for row in rows if await self._is_genuine("admin_tokens", row)])

    async def admin_token(self, token_id: str) -> TokenRecord | None:
        """The token of that id, or None.

        Raises:
            StoreError: it cannot be read.
        """
        async with self._store.snapshot() as transaction:
            rows = await transaction.fetch("SELECT * FROM admin_tokens WHERE token_id = $1", token_id)
        return _record_of(rows[0]) if rows and await self._is_genuine("admin_tokens", rows[0]) else None

    async def note_token_use(self, record: TokenRecord, now: float) -> None:
        """Remember that a token was used, to the minute.

        Raises:
            StoreError: that was not written.
        """
        if record.last_used_at is not None and now - record.last_used_at < USE_NOTED_S:
            return
        async with self._store.transaction() as transaction:
            await transaction.execute(
                "UPDATE admin_tokens SET last_used_at = $1 WHERE token_id = $2", to_ms(now), record.token_id
            )

    async def revoke_admin_token(self, token_id: str, *, actor: str) -> bool:
        """Put a token out of force for good, at once for every process; False when it was already.

        Raises:
            MissingError: no such token.
            StoreError: nothing was changed.
        """
        await self._data_keys.reserve(1)
        async with self._change(actor, "token.revoke", token_id) as change:
            known = "SELECT token_id FROM admin_tokens WHERE token_id = $1"
            if not await change.transaction.fetch(known, token_id):
                raise MissingError(Fault(token_id, "there is no such token"))
            revoked = "UPDATE admin_tokens SET revoked_at = $1 WHERE token_id = $2 AND revoked_at IS NULL"
            asked = (revoked, to_ms(change.now), token_id)
            ring = await self._data_keys.current(change.transaction)
            changed = await write_if_genuine(change.transaction, ring, "admin_tokens", token_id, asked)
        return changed > 0

    # --- creations that may be repeated -----------------------------------------------------------------

    async def claim_creation(
        self, key_digest: bytes, request_digest: bytes, *, expires_at: float
    ) -> Claim | None:
        """Take an idempotency key for a request; None when it was free, else what is kept under it.

        Args:
            key_digest: of the key and of who used it.
            request_digest: of everything that was asked.
            expires_at: until when an unanswered claim holds; epoch seconds.

        Raises:
            StoreError: nothing was taken.
        """
        async with self._store.transaction() as transaction:
            await transaction.execute("DELETE FROM idempotency WHERE expires_at <= $1", to_ms(self._clock()))
            rows = await transaction.fetch("SELECT * FROM idempotency WHERE key_digest = $1", key_digest)
            if rows:
                sealed = rows[0]["sealed"]
                return Claim(bytes(rows[0]["request_digest"]), None if sealed is None else bytes(sealed))
            await transaction.execute(
                "INSERT INTO idempotency (key_digest, request_digest, expires_at) VALUES ($1, $2, $3)",
                key_digest,
                request_digest,
                to_ms(expires_at),
            )
        return None

    async def answer_creation(self, key_digest: bytes, sealed: bytes, *, expires_at: float) -> None:
        """Keep the answer to a claimed creation until ``expires_at`` (epoch seconds).

        Raises:
            StoreError: it was not kept.
        """
        async with self._store.transaction() as transaction:
            await transaction.execute(
                "UPDATE idempotency SET sealed = $1, expires_at = $2 WHERE key_digest = $3",
                sealed,
                to_ms(expires_at),
                key_digest,
            )

    async def drop_claim(self, key_digest: bytes) -> None:
        """Free an idempotency key whose request created nothing.

        Raises:
            StoreError: it stays taken until it expires.
        """
        async with self._store.transaction() as transaction:
            await transaction.execute(
                "DELETE FROM idempotency WHERE key_digest = $1 AND sealed IS NULL", key_digest
            )


def _record_of(row: Row) -> TokenRecord:
    def seconds(column: str) -> float | None:
        return None if row[column] is None else row[column] / 1000

    return TokenRecord(
        token_id=row["token_id"],
        name=row["name"],
        digest=bytes(row["digest"]),
        scopes=frozenset(json.loads(row["scopes"])),
        created_at=row["created_at"] / 1000,
        expires_at=seconds("expires_at"),
        revoked_at=seconds("revoked_at"),
        last_used_at=seconds("last_used_at"),
    )
