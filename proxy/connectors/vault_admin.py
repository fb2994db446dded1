"""The vault's first user: the password that signs in to the control plane from the first start on."""

from proxy.connectors.rows import to_ms
from proxy.connectors.vault_flows import FlowVault


class AdminVault(FlowVault):
    """The part of the vault that knows the first user. Passwords come hashed."""

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
