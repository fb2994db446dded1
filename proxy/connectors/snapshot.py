"""What the vault holds in memory: connections with opened tokens, and keys; replaced, never changed."""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from proxy.connectors import causes
from proxy.connectors.lifetimes import refresh_time
from proxy.connectors.model import Connection, Credential, Tokens
from proxy.connectors.rows import CONNECTION_COLUMNS, KEY_COLUMNS, connection_of, key_of, open_tokens
from proxy.connectors.seal import Keyring, SealBrokenError
from proxy.connectors.store import Row, Transaction
from proxy.keys import KeyRecord

DAMAGED = causes.DAMAGED
_SERVING = frozenset({"active", "refreshing"})


@dataclass(frozen=True, slots=True)
class Held:
    """A connection as it is in memory; no ``credential`` when it may not or cannot be used."""

    connection: Connection
    tokens: Tokens | None
    credential: Credential | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of the vault.

    ``by_service``: connections by name, oldest first. ``credentials`` answers (service, name) and, for the
    default or only connection, (service, None).
    """

    sequence: int = -1
    incarnation: str = ""
    held: Mapping[str, Held] = field(default_factory=dict)
    by_service: Mapping[str, Mapping[str, Held]] = field(default_factory=dict)
    credentials: Mapping[tuple[str, str | None], Credential] = field(default_factory=dict)
    keys: Mapping[str, KeyRecord] = field(default_factory=dict)

    def find(self, service: str, name: str | None) -> Held | None:
        """The connection of that name; without a name the default one, or the only one."""
        of_service = self.by_service.get(service, {})
        if name is not None:
            return of_service.get(name)
        several = len(of_service) > 1
        return next((held for held in of_service.values() if held.connection.is_default or not several), None)


@dataclass(frozen=True, slots=True)
class Changes:
    """What was read from the store: rows that are newer than the last snapshot, and the ids that are left.

    ``connection_ids`` None: every connection of the last snapshot is still there.
    """

    sequence: int
    since: int
    incarnation: str
    connection_ids: frozenset[str] | None
    connections: tuple[Row, ...]
    key_ids: frozenset[str]
    keys: tuple[Row, ...]
    active_key: str | None


_CONNECTIONS = f"SELECT {', '.join(CONNECTION_COLUMNS)} FROM connections WHERE sequence > $1"  # noqa: S608  # our own column names
_KEYS = f"SELECT {', '.join(KEY_COLUMNS)} FROM keys WHERE sequence > $1"  # noqa: S608  # our own column names


async def _read(transaction: Transaction, since: int) -> tuple[Sequence[Row], ...]:
    return await transaction.fetch_each(
        ("SELECT c.sequence, i.incarnation FROM changes c, identity i WHERE c.id = 1 AND i.id = 1",),
        (_CONNECTIONS, since),
        ("SELECT COUNT(*) AS n FROM connections",),
        ("SELECT key_id FROM keys",),
        (_KEYS, since),
        ("SELECT key_id FROM data_keys WHERE is_active = 1",),
    )


async def read_changes(transaction: Transaction, known: Snapshot) -> Changes:
    """Read what changed after a snapshot; everything if it is of a later state, or of another vault."""
    place, connections, count, key_ids, keys, active = await _read(transaction, known.sequence)
    sequence, incarnation = int(place[0]["sequence"]), str(place[0]["incarnation"])
    goes_on = known.sequence <= sequence and known.incarnation == incarnation
    since = known.sequence if goes_on else -1
    if since != known.sequence:
        place, connections, count, key_ids, keys, active = await _read(transaction, since)
    before = known if goes_on else Snapshot()
    return Changes(
        sequence,
        since,
        incarnation,
        await _ids_left(transaction, before, connections, int(count[0]["n"])),
        tuple(connections),
        frozenset(row["key_id"] for row in key_ids),
        tuple(keys),
        None if not active else str(active[0]["key_id"]),
    )


async def _ids_left(
    transaction: Transaction, known: Snapshot, changed: Sequence[Row], count: int
) -> frozenset[str] | None:
    """The ids that there are, None when none of the known ones is missing: then counting them is enough."""
    new = sum(row["connection_id"] not in known.held for row in changed)
    if len(known.held) + new == count:
        return None
    rows = await transaction.fetch("SELECT connection_id FROM connections")
    return frozenset(row["connection_id"] for row in rows)


def _same(old: Credential, new: Credential) -> bool:
    return (
        old.access_token == new.access_token
        and (old.connection, old.config, old.scheme, old.expires_at, old.generation)
        == (new.connection, new.config, new.scheme, new.expires_at, new.generation)
        and old.refresh_at == new.refresh_at
    )  # fmt: skip


def _refresh_at(connection: Connection, tokens: Tokens) -> float | None:
    if connection.state not in _SERVING:
        return None
    if connection.expires_at is None or (tokens.refresh_token is None and connection.registration is None):
        return None
    issued_at = connection.updated_at if connection.issued_at is None else connection.issued_at
    spread = zlib.crc32(f"{connection.connection_id}:{connection.generation}".encode()) / 2**32
    return refresh_time(connection.expires_at, issued_at, spread)


def credential_of(connection: Connection, tokens: Tokens) -> Credential:
    """What requests with this connection's tokens need."""
    return Credential(
        service=connection.service,
        connection_id=connection.connection_id,
        connection=connection.name,
        access_token=tokens.access_token,
        config=connection.config,
        scheme=connection.scheme,
        expires_at=connection.expires_at,
        generation=connection.generation,
        refresh_at=_refresh_at(connection, tokens),
    )


def _serves_on(connection: Connection) -> bool:
    """A dead grant ends no access token by itself: one with a known end is used until then (R123)."""
    return connection.state == "reauthorization_required" and connection.expires_at is not None


def hold(row: Row, ring: Keyring, previous: Held | None) -> Held:
    """Open one row; what does not open is held as a connection that needs a person (R140)."""
    connection = connection_of(row)
    try:
        tokens = open_tokens(row, ring)
    except SealBrokenError:
        return Held(replace(connection, state="reauthorization_required", cause=DAMAGED), None, None)
    if connection.state not in _SERVING and not _serves_on(connection):
        return Held(connection, tokens, None)
    credential = credential_of(connection, tokens)
    if previous is not None and previous.credential is not None and _same(previous.credential, credential):
        credential = previous.credential  # caches key on identity
    return Held(connection, tokens, credential)


def _index(
    held: Iterable[Held],
) -> tuple[dict[str, Mapping[str, Held]], dict[tuple[str, str | None], Credential]]:
    by_service: dict[str, dict[str, Held]] = {}
    for one in sorted(held, key=lambda one: (one.connection.created_at, one.connection.name)):
        by_service.setdefault(one.connection.service, {})[one.connection.name] = one
    credentials: dict[tuple[str, str | None], Credential] = {}
    for service, of_service in by_service.items():
        for name, one in of_service.items():
            if one.credential is not None:
                credentials[service, name] = one.credential
                if one.connection.is_default or len(of_service) == 1:
                    credentials[service, None] = one.credential
    return dict(by_service), credentials


def _stays(old: Held | None, new: Held) -> bool:
    """The connection is found under the same names as before."""
    return old is not None and (
        (old.connection.service, old.connection.name, old.connection.is_default)
        == (new.connection.service, new.connection.name, new.connection.is_default)
    )


def _replaced(
    previous: Snapshot, changed: Iterable[Held]
) -> tuple[dict[str, Mapping[str, Held]], dict[tuple[str, str | None], Credential]]:
    """The index where connections only got other values, as by a refresh: nothing is sorted anew."""
    by_service, credentials = dict(previous.by_service), dict(previous.credentials)
    of_service: dict[str, dict[str, Held]] = {}
    for new in changed:
        service, name = new.connection.service, new.connection.name
        if service not in of_service:
            by_service[service] = of_service[service] = dict(by_service[service])
        of_service[service][name] = new
        is_sole = new.connection.is_default or len(of_service[service]) == 1
        for place in ((service, name), (service, None)) if is_sole else ((service, name),):
            if new.credential is None:
                credentials.pop(place, None)
            else:
                credentials[place] = new.credential
    return by_service, credentials


def advance(previous: Snapshot, changes: Changes, ring: Keyring) -> Snapshot:
    """The next snapshot; what did not change is the same object as before."""
    is_whole = changes.since < 0
    left = changes.connection_ids
    held = {} if is_whole else dict(previous.held)
    if left is not None:
        held = {k: v for k, v in held.items() if k in left}
    changed = {
        row["connection_id"]: hold(row, ring, previous.held.get(row["connection_id"]))
        for row in changes.connections
    }
    held.update(changed)
    keys = {} if is_whole else {k: v for k, v in previous.keys.items() if k in changes.key_ids}
    for row in changes.keys:
        keys[row["key_id"]] = key_of(row)
    if is_whole or left is not None or not all(_stays(previous.held.get(k), v) for k, v in changed.items()):
        by_service, credentials = _index(held.values())
    else:
        by_service, credentials = _replaced(previous, changed.values())
    return Snapshot(changes.sequence, changes.incarnation, held, by_service, credentials, keys)
