"""The vault's users besides the first one, and the browsers that are signed in."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType

from proxy.connectors.rows import to_json, to_ms
from proxy.connectors.store import Transaction
from proxy.connectors.users import FIRST, Account, Role, SignedIn, User, actor_of, role_of
from proxy.connectors.vault_admin import AdminVault
from proxy.connectors.vault_flows import digest
from proxy.errors import ConflictError, Fault, MissingError
from proxy.secret import Secret

_NOTHING: Mapping[str, object] = MappingProxyType({})

_SESSION = "SELECT * FROM sessions WHERE session_digest = $1"
_USER_OF_SESSION = (
    "SELECT users.* FROM users JOIN sessions ON sessions.user_name = users.name "
    "WHERE sessions.session_digest = $1"
)


class UserVault(AdminVault):
    """The part of the vault that knows users. Passwords come hashed; roles are those in force at once."""

    async def users(self) -> tuple[User, ...]:
        """All but the first one, by name.

        Raises:
            StoreError: they cannot be read.
        """
        async with self._store.snapshot() as transaction:
            rows = await transaction.fetch("SELECT * FROM users ORDER BY name")
        return tuple(
            User(
                str(row["name"]),
                role_of(str(row["role"])) or "viewer",
                None if row["email"] is None else str(row["email"]),
                row["password"] is not None,
                row["created_at"] / 1000,
            )
            for row in [row for row in rows if await self._is_genuine("users", row)]
        )

    async def add_user(
        self, name: str, role: Role, *, email: str | None, stored: str | None, actor: str
    ) -> None:
        """Add a user; ``stored``: the password's hash, None for one that signs in elsewhere only.

        Raises:
            ConflictError: name or address are taken.
            StoreError: nothing was stored.
        """
        await self._data_keys.reserve(1)
        async with self._change(actor, "user.create", name) as change:
            taken = await change.transaction.fetch(
                "SELECT name FROM users WHERE name = $1 OR email = $2", name, email
            )
            if taken:
                place = "name" if any(str(row["name"]) == name for row in taken) else "email"
                raise ConflictError(Fault(place, f"there is a user with this {place} already"))
            put = "INSERT INTO users (name, role, email, password, created_at) VALUES ($1, $2, $3, $4, $5)"
            row = (name, role, email, stored, to_ms(change.now))
            await self._write(change.transaction, "users", name, (put, *row))
            change.detail.update(role=role)

    async def change_role(self, name: str, role: Role, *, actor: str) -> None:
        """Give a user another role, which counts at once.

        Raises:
            MissingError: there is no such user.
            ConflictError: the user's row was changed by somebody else.
            StoreError: nothing was changed.
        """
        await self._data_keys.reserve(1)
        async with self._change(actor, "user.role", name) as change:
            put = ("UPDATE users SET role = $2 WHERE name = $1", name, role)
            known = await self._write(change.transaction, "users", name, put)
            _demand(known, name)
            change.detail.update(role=role)

    async def set_user_password(self, name: str, stored: str, *, actor: str) -> None:
        """Store another password's hash; the user's browsers have to sign in again.

        Raises:
            MissingError: there is no such user.
            ConflictError: the user's row was changed by somebody else.
            StoreError: nothing was changed.
        """
        if name == FIRST:
            await self.set_password(stored, actor=actor)
            return
        await self._data_keys.reserve(1)
        async with self._change(actor, "user.password", name) as change:
            transaction = change.transaction
            put = ("UPDATE users SET password = $2 WHERE name = $1", name, stored)
            known = await self._write(transaction, "users", name, put)
            _demand(known, name)
            ended = await transaction.execute("DELETE FROM sessions WHERE user_name = $1", name)
            change.detail.update(sessions_ended=ended)
        await self._erase()

    async def remove_user(self, name: str, *, actor: str) -> None:
        """Remove a user, whose browsers are signed out.

        Raises:
            MissingError: there is no such user.
            StoreError: nothing was changed.
        """
        async with self._change(actor, "user.remove", name) as change:
            _demand(await change.transaction.execute("DELETE FROM users WHERE name = $1", name), name)
            await change.transaction.execute("DELETE FROM sessions WHERE user_name = $1", name)
        await self._erase()

    async def password_of(self, name: str) -> str | None:
        """The stored hash; None where there is no such user, or none that has a password.

        Raises:
            StoreError: it cannot be read.
        """
        if name == FIRST:
            return await self.password()
        async with self._store.snapshot() as transaction:
            rows = await transaction.fetch("SELECT * FROM users WHERE name = $1", name)
        if not rows or rows[0]["password"] is None or not await self._is_genuine("users", rows[0]):
            return None
        return str(rows[0]["password"])

    async def recognise(self, email: str, account: Account) -> str | None:
        """Name of the user with that address, in any case of its letters; None: there is none.

        The first sign-in ties the user to the account: an address can be given to somebody else later. Once
        the settings name another provider or client, the next sign-in ties anew.

        Raises:
            ConflictError: the user is tied to another account of the same provider.
            StoreError: it cannot be read, or the tie not be stored.
        """
        async with self._store.snapshot() as reading:
            known = await self._by_email(reading, email)
        if known is None or _is_tied(known[1], account):
            return None if known is None else known[0]
        await self._data_keys.reserve(1)
        async with self._change(actor_of(known[0]), "user.account", known[0]) as change:
            known = await self._by_email(change.transaction, email)
            if known is None:
                return None
            if not _is_tied(known[1], account):
                put = ("UPDATE users SET known_as = $2 WHERE name = $1", known[0], to_json(asdict(account)))
                await self._write(change.transaction, "users", known[0], put)
            change.detail.update(asdict(account))
        return known[0]

    async def _by_email(self, transaction: Transaction, email: str) -> tuple[str, Account | None] | None:
        rows = await transaction.fetch("SELECT * FROM users WHERE email = $1", email.lower())
        if not rows or not await self._is_genuine("users", rows[0]):
            return None
        tied = rows[0]["known_as"]
        return str(rows[0]["name"]), None if tied is None else Account(**json.loads(tied))

    # --- browsers -----------------------------------------------------------------------------------

    async def add_session(
        self,
        session: Secret,
        user: str = FIRST,
        *,
        expires_at: float,
        actor: str,
        detail: Mapping[str, object] = _NOTHING,
    ) -> None:
        """Sign a browser in, and forget sessions that have run out; audited, with ``detail``.

        Raises:
            StoreError: nothing was stored.
        """
        await self._data_keys.reserve(1)
        async with self._store.transaction() as transaction:
            now = to_ms(self._clock())
            await transaction.execute("DELETE FROM sessions WHERE expires_at <= $1", now)
            put = (
                "INSERT INTO sessions (session_digest, user_name, created_at, expires_at) "
                "VALUES ($1, $2, $3, $4)"
            )
            row = (digest(session), user, now, to_ms(expires_at))
            await self._write(transaction, "sessions", digest(session), (put, *row))
        await self.record(actor, "admin.sign_in", user, detail)

    async def signed_in(self, session: Secret) -> SignedIn | None:
        """Whose browser keeps this; None when it is not signed in (any more).

        Raises:
            StoreError: it cannot be read.
        """
        async with self._store.snapshot() as transaction:
            rows, users = await transaction.fetch_each(
                (_SESSION, digest(session)), (_USER_OF_SESSION, digest(session))
            )
        if not rows or int(rows[0]["expires_at"]) <= to_ms(self._clock()):
            return None
        if not await self._is_genuine("sessions", rows[0]):
            return None
        if rows[0]["user_name"] == FIRST:
            return SignedIn(FIRST, "admin")
        if not users or not await self._is_genuine("users", users[0]):
            return None
        role = role_of(str(users[0]["role"]))
        return None if role is None else SignedIn(str(users[0]["name"]), role)

    async def end_session(self, session: Secret) -> None:
        """Sign a browser out.

        Raises:
            StoreError: nothing was changed.
        """
        async with self._store.transaction() as transaction:
            await transaction.execute("DELETE FROM sessions WHERE session_digest = $1", digest(session))


def _demand(changed: int, name: str) -> None:
    if not changed:
        raise MissingError(Fault(name[:80], "there is no such user"))


def _is_tied(tied: Account | None, account: Account) -> bool:
    """Whether a user is tied to this account; False: to none, or to one that the settings no longer mean.

    Raises:
        ConflictError: to another account of the same provider.
    """
    if tied is None or (tied.issuer, tied.client_id) != (account.issuer, account.client_id):
        return False
    if tied.subject != account.subject:
        raise ConflictError(Fault("email", "belongs to another account at the provider now"))
    return True
