"""Registrations in the vault: apps at providers, their secrets sealed; read when needed, not held open."""

from typing import Any

from proxy.connectors.oauth.registration import Registration
from proxy.connectors.rows import to_ms
from proxy.connectors.seal import Place, SealBrokenError, key_id_of
from proxy.connectors.store import Row
from proxy.connectors.vault_keys import KeyVault, upsert
from proxy.secret import Secret

_COLUMNS = (
    "registration_id", "family", "client_id", "client_secret", "secret_key_id", "created_at", "updated_at",
)  # fmt: skip
_PUT = upsert("registrations", _COLUMNS, "registration_id")


def secret_place(row: Row) -> Place:
    """Whom a secret is sent for is part of its place: a row edited to another app does not open."""
    return Place(
        "registrations", f"{row['registration_id']}|{row['family']}|{row['client_id']}", "client_secret"
    )


class RegistrationVault(KeyVault):
    """The part of the vault that keeps registrations (``oauth.registration.RegistrationStore``)."""

    async def registration(self, registration_id: str) -> Registration | None:
        """The one of that id, or None.

        Raises:
            StoreError: it cannot be read.
            SealBrokenError: its secret does not open; the text says how to mend that.
        """
        async with self._store.snapshot() as transaction:
            rows = await transaction.fetch(
                "SELECT * FROM registrations WHERE registration_id = $1", registration_id
            )
        found = await self._registration_of(rows[0]) if rows else None
        if found is not None and found.damaged:
            raise SealBrokenError(found.mending)
        return found

    async def registrations(self) -> tuple[Registration, ...]:
        """All of them, by id; those whose secret does not open are ``damaged``.

        Raises:
            StoreError: they cannot be read.
        """
        async with self._store.snapshot() as transaction:
            rows = await transaction.fetch("SELECT * FROM registrations ORDER BY registration_id")
        return tuple([await self._registration_of(row) for row in rows])

    async def save_registration(self, registration: Registration, *, actor: str = "operator") -> None:
        """Keep a registration sealed, new or in place of the one with that id.

        Raises:
            StoreError: nothing was stored.
        """
        secret = registration.client_secret
        await self._data_keys.reserve(1)
        async with self._change(actor, "registration.save", registration.registration_id) as change:
            kept = await change.transaction.fetch(
                "SELECT created_at FROM registrations WHERE registration_id = $1",
                registration.registration_id,
            )
            now = to_ms(change.now)
            row: dict[str, Any] = {
                "registration_id": registration.registration_id,
                "family": registration.family,
                "client_id": registration.client_id,
                "client_secret": None,
                "secret_key_id": None,
                "created_at": kept[0]["created_at"] if kept else now,
                "updated_at": now,
            }
            if secret is not None:
                ring = await self._data_keys.current(change.transaction)
                row["client_secret"] = ring.seal(secret.reveal().encode(), secret_place(row))
                row["secret_key_id"] = key_id_of(row["client_secret"])
            await change.transaction.execute(_PUT, *(row[column] for column in _COLUMNS))
            change.detail.update(family=registration.family, client_id=registration.client_id)
        if kept:
            await self._erase()

    async def remove_registration(self, registration_id: str, *, actor: str = "operator") -> bool:
        """Forget a registration and erase its secret; False when there was none.

        Raises:
            StoreError: nothing was changed.
        """
        async with self._change(actor, "registration.remove", registration_id) as change:
            removed = await change.transaction.execute(
                "DELETE FROM registrations WHERE registration_id = $1", registration_id
            )
            change.detail.update(removed=removed)
        if removed:
            await self._erase()
        return removed > 0

    async def _registration_of(self, row: Row) -> Registration:
        known = row["registration_id"], row["family"], row["client_id"]
        try:
            return Registration(*known, await self._secret_of(row))
        except SealBrokenError:
            return Registration(*known, damaged=True)

    async def _secret_of(self, row: Row) -> Secret | None:
        blob = row["client_secret"]
        if blob is None:
            return None
        if row["secret_key_id"] not in self._data_keys.ring.keys:
            await self._data_keys.reload()
        return Secret(self._data_keys.ring.open(bytes(blob), secret_place(row)).decode())
