"""The vault's operator: the password that signs in to the control plane, and browsers that are signed in."""

from proxy.connectors.rows import to_ms
from proxy.connectors.vault_flows import FlowVault, digest
from proxy.secret import Secret


class AdminVault(FlowVault):
    """The part of the vault that knows who may use the control plane. Passwords come hashed."""

    async def password(self) -> str | None:
        """The stored hash, or None where no password was made yet.

        Raises:
            StoreError: it cannot be read.
        """
        async with self._store.snapshot() as transaction:
            rows = await transaction.fetch("SELECT password FROM admin WHERE id = 1")
        return str(rows[0]["password"]) if rows else None

    async def add_password(self, stored: str, *, actor: str) -> bool:
        """Store the first password's hash; False when another process was first.

        Raises:
            StoreError: nothing was stored.
        """
        async with self._change(actor, "admin.password", "admin") as change:
            added = await change.transaction.execute(
                "INSERT INTO admin (id, password, changed_at) VALUES (1, $1, $2) ON CONFLICT (id) DO NOTHING",
                stored,
                to_ms(change.now),
            )
            change.detail.update(added=added)
        return added > 0

    async def set_password(self, stored: str, *, actor: str) -> None:
        """Store another password's hash; every browser has to sign in again.

        Raises:
            StoreError: nothing was changed.
        """
        async with self._change(actor, "admin.password", "admin") as change:
            await change.transaction.execute(
                "INSERT INTO admin (id, password, changed_at) VALUES (1, $1, $2) "
                "ON CONFLICT (id) DO UPDATE "
                "SET password = excluded.password, changed_at = excluded.changed_at",
                stored,
                to_ms(change.now),
            )
            ended = await change.transaction.execute("DELETE FROM sessions")
            change.detail.update(sessions_ended=ended)
        await self._erase()

    async def add_session(self, session: Secret, *, expires_at: float, actor: str) -> None:
        """Sign a browser in, and forget sessions that have run out; audited.

        Raises:
            StoreError: nothing was stored.
        """
        async with self._store.transaction() as transaction:
            now = to_ms(self._clock())
            await transaction.execute("DELETE FROM sessions WHERE expires_at <= $1", now)
            await transaction.execute(
                "INSERT INTO sessions (session_digest, created_at, expires_at) VALUES ($1, $2, $3)",
                digest(session),
                now,
                to_ms(expires_at),
            )
        await self.record(actor, "admin.sign_in", "admin", {})

    async def has_session(self, session: Secret) -> bool:
        """True while the browser that keeps this is signed in.

        Raises:
            StoreError: it cannot be read.
        """
        async with self._store.snapshot() as transaction:
            rows = await transaction.fetch(
                "SELECT expires_at FROM sessions WHERE session_digest = $1", digest(session)
            )
        return bool(rows) and int(rows[0]["expires_at"]) > to_ms(self._clock())

    async def end_session(self, session: Secret) -> None:
        """Sign a browser out.

        Raises:
            StoreError: nothing was changed.
        """
        async with self._store.transaction() as transaction:
            await transaction.execute("DELETE FROM sessions WHERE session_digest = $1", digest(session))
