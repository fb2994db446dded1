"""The vault: connections and keys, sealed in a store, opened once into memory, watched for changes.

Reads (``snapshot``, ``connections``, ``keys``) never wait. Writes are one transaction each, with an
audit row, and are in the snapshot when they return. Other processes see them through the store's sequence.
"""

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from proxy.catalog.model import Catalog, Scheme
from proxy.catalog.params import check_config
from proxy.catalog.reader import nearest
from proxy.connectors import notices
from proxy.connectors.audit_log import AuditLog
from proxy.connectors.checked import check_name, token_fault
from proxy.connectors.datakeys import DataKeys
from proxy.connectors.identity import mark, open_identity, secret_for
from proxy.connectors.live import Change, Clock
from proxy.connectors.masterkey import MasterKeySource
from proxy.connectors.model import Connection, Tokens
from proxy.connectors.rows import CONNECTION_COLUMNS, connection_of, optional_ms, seal_tokens, to_json, to_ms
from proxy.connectors.sqlite import SqliteStore
from proxy.connectors.store import Row, Store, Transaction
from proxy.connectors.vault_keys import upsert
from proxy.connectors.vault_upkeep import UpkeepVault
from proxy.errors import ConfigurationError, ConflictError, Fault, MissingError, StateError, StoreError
from proxy.secret import Secret

# what refreshes of an earlier grant came to says nothing about the new one; a lease under way ends by itself
_FORGET_REFRESHES = """UPDATE refreshes SET attempt_id = NULL, unknowns = 0, failures = 0, retry_at = NULL,
    last_error = NULL, forced_at = NULL WHERE connection_id = $1"""
_PUT_CONNECTION = upsert("connections", CONNECTION_COLUMNS, "connection_id")


class Vault(UpkeepVault):
    """See the module; made by :meth:`open`. ``actor`` of a change is whom the audit names."""

    def __init__(
        self,
        store: Store,
        data_keys: DataKeys,
        clock: Clock,
        *,
        catalog: Catalog,
        mark_key: bytes,
        incarnation: str,
    ) -> None:
        super().__init__(store, data_keys, clock, AuditLog(secret_for(mark_key, "audit")))
        self.notices: tuple[str, ...] = ()
        self._catalog = catalog
        self._mark_key = mark_key
        self._incarnation = incarnation

    @classmethod
    async def open(
        cls, data_dir: Path, master_key: MasterKeySource, *, catalog: Catalog, clock: Clock
    ) -> Self:
        """Open or create the SQLite vault in ``data_dir``; ``clock`` gives seconds since the epoch.

        ``notices`` then holds what the operator should know, one sentence each.

        Raises:
            StateError: folder, file, schema or master key do not allow to go on; nothing was written then.
        """
        store = await SqliteStore.open(data_dir)
        vault = await cls.over(store, master_key, catalog=catalog, clock=clock)
        vault.notices = (*store.notices, *vault.notices)
        return vault

    @classmethod
    async def over(cls, store: Store, master_key: MasterKeySource, *, catalog: Catalog, clock: Clock) -> Self:
        """The same over any open store, which belongs to the vault from now on."""
        try:
            data_keys = await DataKeys.open(store, master_key, clock)
            mark_key = await open_identity(store, data_keys, clock())
            incarnation = await store.incarnation()
            vault = cls(store, data_keys, clock, catalog=catalog, mark_key=mark_key, incarnation=incarnation)
            await vault.audit_log.begin(store, clock())
            vault.notices = await vault._sign_first()
            await vault._load()
            if vault.is_copy:
                vault.notices = (*vault.notices, vault.copy_warning)
        except StoreError as error:
            await store.close()
            raise StateError(str(error)) from error
        except BaseException:
            await store.close()
            raise
        return vault

    def mark(self, token: Secret) -> bytes:
        """The fingerprint by which one grant stored twice, or a spent refresh token, is known again."""
        return mark(self._mark_key, token)

    def secret_for(self, purpose: str) -> bytes:
        """A secret that every process has that opened this vault, and nobody else; one for each purpose."""
        return secret_for(self._mark_key, purpose)

    async def save_connection(
        self,
        service: str,
        name: str,
        tokens: Tokens,
        *,
        config: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        scheme: Scheme | None = None,
        account: str | None = None,
        scopes: Iterable[str] = (),
        asked_scopes: Iterable[str] = (),
        registration: str | None = None,
        actor: str = "operator",
    ) -> Connection:
        """Store an account's tokens; under a name that exists the connection is renewed and keeps its id.

        The first connection of a service becomes its default.

        Raises:
            ConfigurationError: unknown service, bad name, token or ``config``.
            StoreError: nothing was stored.
        """
        known = self._catalog.get(service)
        if known is None:
            hint = nearest(service, self._catalog.services)
            raise ConfigurationError(Fault(service, f"there is no such service{hint}"))
        check_name(name)
        fault = token_fault(tokens.access_token, scheme or known.auth.scheme)
        if fault is not None:
            raise ConfigurationError(Fault(f"{service}@{name}", fault))
        checked, told = check_config(known, config or {})
        row: dict[str, Any] = {
            "service": service,
            "name": name,
            "state": "active",
            "cause": None,
            "account": account,
            "scopes": to_json(list(scopes)),
            "config": None if checked is None else to_json(dict(checked)),
            "metadata": to_json({**told, **(metadata or {})}),
            "scheme": scheme,
            "expires_at": optional_ms(tokens.expires_at),
            "registration": registration,
            "asked_scopes": to_json(list(asked_scopes)),
            "issued_at": optional_ms(self._clock() if tokens.issued_at is None else tokens.issued_at),
            "refresh_expires_at": optional_ms(tokens.refresh_expires_at),
            "grant_mark": self.mark(tokens.refresh_token or tokens.access_token),
        }
        await self._put(row, tokens, actor)
        return connection_of(row)

    async def _put(self, row: dict[str, Any], tokens: Tokens, actor: str) -> None:
        await self._data_keys.reserve(2)
        async with self._change(actor, "connection.save", f"{row['service']}@{row['name']}") as change:
            was = await _settle(change, row)
            row.update(seal_tokens(row, tokens, await self._data_keys.current(change.transaction)))
            await change.transaction.execute(_PUT_CONNECTION, *(row[column] for column in CONNECTION_COLUMNS))
            await change.transaction.execute(_FORGET_REFRESHES, row["connection_id"])
            if was == "reauthorization_required":
                await notices.add(change.transaction, change.now, "connection.recovered", notices.about(row))
            change.detail.update(generation=row["generation"], account=row["account"], scopes=row["scopes"])
        if row["generation"] > 1:
            await self._erase()

    async def set_default(self, service: str, name: str, *, actor: str = "operator") -> None:
        """Make a connection the one that addresses without ``@name`` mean.

        Raises:
            ConfigurationError: no such connection.
        """
        async with self._change(actor, "connection.default", f"{service}@{name}") as change:
            connection_id = await _find(change.transaction, service, name)
            await change.transaction.execute(
                "UPDATE connections SET is_default = 0, sequence = $1 WHERE service = $2 AND is_default = 1",
                change.sequence,
                service,
            )
            await change.transaction.execute(
                "UPDATE connections SET is_default = 1, sequence = $1 WHERE connection_id = $2",
                change.sequence,
                connection_id,
            )

    async def freeze(self, service: str, name: str, *, frozen: bool = True, actor: str = "operator") -> None:
        """Stop handing out a connection's token everywhere, or (``frozen=False``) go on.

        Raises:
            ConfigurationError: no such connection, or its state is neither of the two.
        """
        before, after, cause = ("active", "frozen", "operator") if frozen else ("frozen", "active", None)
        action = "connection.freeze" if frozen else "connection.thaw"
        async with self._change(actor, action, f"{service}@{name}") as change:
            connection_id = await _find(change.transaction, service, name)
            changed = await change.transaction.execute(
                "UPDATE connections SET state = $1, cause = $2, sequence = $3, updated_at = $4 "
                "WHERE connection_id = $5 AND state IN ($1, $6)",
                after,
                cause,
                change.sequence,
                to_ms(change.now),
                connection_id,
                before,
            )
            if not changed:
                raise ConflictError(Fault(f"{service}@{name}", f"the connection is not {before}"))
            rows = await change.transaction.fetch(
                "SELECT * FROM connections WHERE connection_id = $1", connection_id
            )
            event = "connection.frozen" if frozen else "connection.thawed"
            await notices.add(change.transaction, change.now, event, notices.about(rows[0]))

    async def freeze_all(self, *, frozen: bool = True, actor: str = "operator") -> int:
        """Stop handing out every token everywhere, or go on with what an operator stopped; how many it was.

        Raises:
            StoreError: nothing was changed.
        """
        before, after, cause = ("active", "frozen", "operator") if frozen else ("frozen", "active", None)
        action = "connection.freeze_all" if frozen else "connection.thaw_all"
        event = "connection.frozen" if frozen else "connection.thawed"
        async with self._change(actor, action, "*") as change:
            rows = await change.transaction.fetch(
                "UPDATE connections SET state = $1, cause = $2, sequence = $3, updated_at = $4 "
                "WHERE state = $5 AND (state <> 'frozen' OR cause = 'operator') RETURNING *",
                after,
                cause,
                change.sequence,
                to_ms(change.now),
                before,
            )
            for row in rows:
                await notices.add(change.transaction, change.now, event, notices.about(row))
            change.detail.update(count=len(rows))
        return len(rows)

    async def remove(
        self, service: str, name: str, *, keeps_grant: bool = False, actor: str = "operator"
    ) -> None:
        """Forget a connection and erase its tokens from the files.

        ``keeps_grant``: its grant is to live on at the provider, so what a refresh under way brings is not
        revoked either.

        Raises:
            ConfigurationError: no such connection.
        """
        async with self._change(actor, "connection.remove", f"{service}@{name}") as change:
            connection_id = await _find(change.transaction, service, name)
            await change.transaction.execute(
                "DELETE FROM connections WHERE connection_id = $1", connection_id
            )
            change.detail.update(connection_id=connection_id, keeps_grant=keeps_grant)
        await self._erase()


async def _settle(change: Change, row: dict[str, Any]) -> str | None:
    """Fill in what depends on the connections that are there; the old state."""
    of_service = await change.transaction.fetch(
        "SELECT connection_id, name, is_default, state, generation, created_at FROM connections "
        "WHERE service = $1",
        row["service"],
    )
    now = to_ms(change.now)
    found = next((one for one in of_service if one["name"] == row["name"]), None)
    row["connection_id"] = found["connection_id"] if found else f"con_{secrets.token_hex(8)}"
    row["generation"] = _number(found, "generation", 0) + 1
    row["is_default"] = found["is_default"] if found else int(not of_service)
    row["created_at"] = _number(found, "created_at", now)
    row["updated_at"] = now
    row["sequence"] = change.sequence
    return str(found["state"]) if found else None


def _number(row: Row | None, column: str, otherwise: int) -> int:
    """What a row has there; SQLite keeps anything that somebody else puts there, which connecting mends."""
    value = None if row is None else row[column]
    return value if isinstance(value, int) else otherwise


async def _find(transaction: Transaction, service: str, name: str) -> str:
    rows = await transaction.fetch("SELECT connection_id, name FROM connections WHERE service = $1", service)
    for row in rows:
        if row["name"] == name:
            return str(row["connection_id"])
    hint = nearest(name, [row["name"] for row in rows])
    raise MissingError(Fault(f"{service}@{name}", f"there is no such connection{hint}"))
