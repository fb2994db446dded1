"""What the vault holds in memory: connections with opened tokens, and keys; replaced, never changed."""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from proxy.connectors import causes
from proxy.connectors.changes import Changes
from proxy.connectors.layers import Layers
from proxy.connectors.lifetimes import refresh_time
from proxy.connectors.model import Connection, Credential, Tokens
from proxy.connectors.rows import key_of, opened
from proxy.connectors.rowseals import Refused, refused
from proxy.connectors.seal import Keyring
from proxy.connectors.store import Row
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
    default or only connection, (service, None). ``refused``: rows of keys that are not as
    this program wrote them.
    """

    sequence: int = -1
    incarnation: str = ""
    held: Layers[str, Held] = field(default_factory=lambda: Layers({}))
    by_service: Mapping[str, Layers[str, Held]] = field(default_factory=dict)
    credentials: Layers[tuple[str, str | None], Credential] = field(default_factory=lambda: Layers({}))
    keys: Mapping[str, KeyRecord] = field(default_factory=dict)
    refused: Mapping[str, Refused] = field(default_factory=dict)

    def find(self, service: str, name: str | None) -> Held | None:
        """The connection of that name; without a name the default one, or the only one."""
        of_service = self.by_service.get(service)
        if of_service is None or name is not None:
            return None if of_service is None or name is None else of_service.get(name)
        several = len(of_service) > 1
        return next((held for held in of_service.values() if held.connection.is_default or not several), None)


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
    connection, tokens = opened(row, ring)
    if tokens is None:
        return Held(replace(connection, state="reauthorization_required", cause=DAMAGED), None, None)
    if connection.state not in _SERVING and not _serves_on(connection):
        return Held(connection, tokens, None)
    credential = credential_of(connection, tokens)
    if previous is not None and previous.credential is not None and _same(previous.credential, credential):
        credential = previous.credential  # caches key on identity
    return Held(connection, tokens, credential)


_Index = tuple[Mapping[str, Layers[str, Held]], Layers[tuple[str, str | None], Credential]]


def _index(held: Iterable[Held]) -> _Index:
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
    return {service: Layers(of_service) for service, of_service in by_service.items()}, Layers(credentials)


def _stays(old: Held | None, new: Held) -> bool:
    """The connection is found under the same names as before."""
    return old is not None and (
        (old.connection.service, old.connection.name, old.connection.is_default)
        == (new.connection.service, new.connection.name, new.connection.is_default)
    )


def _replaced(previous: Snapshot, changed: Iterable[Held]) -> _Index:
    """The index where connections only got other values, as by a refresh: nothing is sorted or copied."""
    of_services: dict[str, dict[str, Held]] = {}
    credentials: dict[tuple[str, str | None], Credential | None] = {}
    for new in changed:
        service, name = new.connection.service, new.connection.name
        of_services.setdefault(service, {})[name] = new
        credentials[service, name] = new.credential
        if new.connection.is_default or len(previous.by_service[service]) == 1:
            credentials[service, None] = new.credential
    by_service = {
        service: of_service.changed(of_services[service]) if service in of_services else of_service
        for service, of_service in previous.by_service.items()
    }
    return by_service, previous.credentials.changed(credentials)


def advance(previous: Snapshot, changes: Changes, ring: Keyring) -> Snapshot:
    """The next snapshot; what did not change is the same object as before."""
    is_whole, left = changes.since < 0, changes.connection_ids
    changed = {
        row["connection_id"]: hold(row, ring, previous.held.get(row["connection_id"]))
        for row in changes.connections
    }
    keys = {} if is_whole else {k: v for k, v in previous.keys.items() if k in changes.key_ids}
    wrong = {} if is_whole else {k: v for k, v in previous.refused.items() if k in changes.key_ids}
    for row in changes.keys:
        keys.pop(row["key_id"], None)
        wrong.pop(row["key_id"], None)
        fault = refused("keys", row, ring)
        if fault is None:
            keys[row["key_id"]] = key_of(row)
        else:
            wrong[row["key_id"]] = fault
    if is_whole or left is not None or not all(_stays(previous.held.get(k), v) for k, v in changed.items()):
        before = {k: v for k, v in previous.held.items() if left is None or k in left}
        held = Layers(changed if is_whole else {**before, **changed})
        by_service, credentials = _index(held.values())
    else:
        held = previous.held.changed(changed)
        by_service, credentials = _replaced(previous, changed.values())
    return Snapshot(changes.sequence, changes.incarnation, held, by_service, credentials, keys, wrong)
