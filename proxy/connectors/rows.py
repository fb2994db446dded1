"""Between rows and values: times are milliseconds in the database and seconds in values, JSON is text."""

import ipaddress
import json
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from proxy.connectors.model import Connection, Tokens
from proxy.connectors.seal import Keyring, Place, SealBrokenError, key_id_of
from proxy.connectors.store import Row
from proxy.keys import KeyRecord, parse_rate
from proxy.secret import Secret

CONNECTION_COLUMNS = [
    "connection_id",
    "service",
    "name",
    "is_default",
    "state",
    "cause",
    "account",
    "scopes",
    "config",
    "metadata",
    "scheme",
    "access_token",
    "refresh_token",
    "access_key_id",
    "refresh_key_id",
    "expires_at",
    "generation",
    "created_at",
    "updated_at",
    "sequence",
    "registration",
    "asked_scopes",
    "issued_at",
    "refresh_expires_at",
    "grant_mark",
]
KEY_COLUMNS = [
    "key_id",
    "name",
    "digest",
    "permits",
    "kind",
    "root",
    "networks",
    "created_at",
    "expires_at",
    "revoked_at",
    "sequence",
    "rate",
    "concurrency",
]


def to_ms(seconds: float) -> int:
    """Milliseconds since the epoch."""
    return round(seconds * 1000)


def optional_ms(seconds: float | None) -> int | None:
    """The same, for times that may be unknown."""
    return None if seconds is None else to_ms(seconds)


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def to_json(value: object) -> str:
    """Compact JSON with sorted keys."""
    return _COMPACT.encode(value)


@lru_cache(maxsize=1024)  # connections of one service have the same scopes, and often the same metadata
def _strings(text: str) -> Mapping[str, str]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise TypeError("no JSON object")
    return MappingProxyType(found)


@lru_cache(maxsize=1024)
def _list(text: str) -> tuple[str, ...]:
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise TypeError("no JSON array of strings")
    return tuple(found)


def blob_of(value: object) -> bytes:
    """A sealed value, from whatever type the database's driver has for bytes.

    Raises:
        SealBrokenError: something else is stored there, which SQLite allows.
    """
    if not isinstance(value, bytes | bytearray | memoryview):
        raise SealBrokenError("there are no bytes where a sealed value should be")
    return bytes(value)


_UNREADABLE = (SealBrokenError, TypeError, ValueError, RecursionError)
_KINDS = {"service": str, "name": str, "state": str, "generation": int}


def connection_of(row: Row) -> Connection:
    """The connection, without its tokens.

    Raises:
        TypeError, ValueError, RecursionError: a column holds what this program does not write.
    """
    for column, kind in _KINDS.items():
        if not isinstance(row[column], kind):
            raise TypeError(f"connections.{column} is no {kind.__name__}")
    return Connection(
        connection_id=row["connection_id"],
        service=row["service"],
        name=row["name"],
        is_default=bool(row["is_default"]),
        state=row["state"],
        cause=row["cause"],
        account=row["account"],
        scopes=_list(row["scopes"]),
        config=None if row["config"] is None else _strings(row["config"]),
        metadata=_strings(row["metadata"]),
        scheme=row["scheme"],
        expires_at=_seconds(row["expires_at"]),
        generation=row["generation"],
        created_at=row["created_at"] / 1000,
        updated_at=row["updated_at"] / 1000,
        registration=row["registration"],
        asked_scopes=_list(row["asked_scopes"] or "[]"),
        issued_at=_seconds(row["issued_at"]),
        refresh_expires_at=_seconds(row["refresh_expires_at"]),
    )


def _identity(row: Row) -> str:
    """What decides where a token is sent, as JSON."""
    return to_json([row["connection_id"], row["service"], row["config"], row["scheme"]])


def token_place(row: Row, column: str) -> Place:
    """What decides where a token is sent is part of its place: a row edited to lead elsewhere fails."""
    return Place("connections", _identity(row), column)


def seal_tokens(row: Row, tokens: Tokens, ring: Keyring) -> dict[str, Any]:
    """The token columns of a connection's row, whose other columns are settled."""
    sealed: dict[str, Any] = {"refresh_token": None, "refresh_key_id": None}
    for column, key_column, token in (
        ("access_token", "access_key_id", tokens.access_token),
        ("refresh_token", "refresh_key_id", tokens.refresh_token),
    ):
        if token is not None:
            sealed[column] = ring.seal(token.reveal().encode(), token_place(row, column))
            sealed[key_column] = key_id_of(sealed[column])
    return sealed


def open_tokens(row: Row, ring: Keyring) -> Tokens:
    """The tokens of a connection's row.

    Raises:
        SealBrokenError: damaged, moved, its row edited, or its data key is not in the ring.
    """
    identity = _identity(row)

    def opened(column: str) -> Secret | None:
        blob = row[column]
        if blob is None:
            return None
        return Secret(ring.open(blob_of(blob), Place("connections", identity, column)).decode())

    access_token = opened("access_token")
    return Tokens(
        access_token or Secret(""),
        opened("refresh_token"),
        expires_at=_seconds(row["expires_at"]),
        issued_at=_seconds(row["issued_at"]),
        refresh_expires_at=_seconds(row["refresh_expires_at"]),
    )


def opened(row: Row, ring: Keyring) -> tuple[Connection, Tokens | None]:
    """A connection and its tokens, None where they do not open: one row never costs the others (R140).

    Of a row that cannot be read either, the connection is no more than where it is found.
    """
    try:
        connection = connection_of(row)
    except _UNREADABLE:
        place = str(row["service"]), str(row["name"])
        return Connection(row["connection_id"], *place, is_default=bool(row["is_default"])), None
    try:
        return connection, open_tokens(row, ring)
    except _UNREADABLE:
        return connection, None


def key_of(row: Row) -> KeyRecord:
    """The record of a key."""
    return KeyRecord(
        key_id=row["key_id"],
        name=row["name"],
        digest=bytes(row["digest"]),
        permits=tuple(json.loads(row["permits"])),
        kind=row["kind"],
        root=row["root"],
        networks=tuple(ipaddress.ip_network(text) for text in json.loads(row["networks"])),
        created_at=row["created_at"] / 1000,
        expires_at=_seconds(row["expires_at"]),
        revoked_at=_seconds(row["revoked_at"]),
        rate=None if row["rate"] is None else parse_rate(row["rate"]),
        concurrency=row["concurrency"],
    )


def key_row(record: KeyRecord, sequence: int) -> dict[str, Any]:
    """The row of a key."""
    return {
        "key_id": record.key_id,
        "name": record.name,
        "digest": record.digest,
        "permits": to_json(list(record.permits)),
        "kind": record.kind,
        "root": record.root,
        "networks": to_json([str(network) for network in record.networks]),
        "created_at": to_ms(record.created_at),
        "expires_at": optional_ms(record.expires_at),
        "revoked_at": optional_ms(record.revoked_at),
        "sequence": sequence,
        "rate": None if record.rate is None else str(record.rate),
        "concurrency": record.concurrency,
    }
