"""The vault's first user: the password that signs in to the control plane from the first start on."""

from proxy.connectors.live import Change
from proxy.connectors.rows import to_ms
from proxy.connectors.vault_flows import FlowVault


class AdminVault(FlowVault):
    """The part of the vault that knows the first user. Passwords come hashed."""

    async def password(self) -> str | None:
        """The stored hash; None where no password was made yet, or somebody else has put one there.

        Raises:
            StoreError: it cannot be read.
        """
        async with self._store.snapshot() as transaction:
            rows = await transaction.fetch("SELECT * FROM admin WHERE id = 1")
        return str(rows[0]["password"]) if rows and await self._is_genuine("admin", rows[0]) else None

    async def add_password(self, stored: str, *, actor: str) -> bool:
        """Store the first password's hash; False when another process was first.

        Raises:
            StoreError: nothing was stored.
        """
        await self._data_keys.reserve(1)
        async with self._change(actor, "admin.password", "admin") as change:
            is_first = not await change.transaction.fetch("SELECT 1 AS one FROM admin WHERE id = 1")
            if is_first:
                await self._put_password(change, stored)
            change.detail.update(added=int(is_first))
        return is_first

    async def _put_password(self, change: Change, stored: str) -> None:
        put = (
            "INSERT INTO admin (id, password, changed_at) VALUES (1, $1, $2) ON CONFLICT (id) DO UPDATE "
            "SET password = excluded.password, changed_at = excluded.changed_at"
        )
        row = (stored, to_ms(change.now))
        await self._write(change.transaction, "admin", 1, (put, *row), whole=True)

    async def set_password(self, stored: str, *, actor: str) -> None:
        """Store another password's hash; every browser has to sign in again.

        Raises:
            StoreError: nothing was changed.
        """
        await self._data_keys.reserve(1)
        async with self._change(actor, "admin.password", "admin") as change:
            await self._put_password(change, stored)
            ended = await change.transaction.execute("DELETE FROM sessions")
            change.detail.update(sessions_ended=ended)
        await self._erase()
