"""Audit rows as they are read: who changed or revealed what, and when (R157). They never hold a secret."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

from proxy.connectors.rows import to_ms
from proxy.connectors.store import Row, Transaction
from proxy.connectors.users import actor_of

Mark = tuple[int, str]  # of a row: its time in milliseconds and its id, which order rows
LAST: Mark = (2**62, "")
FIRST: Mark = (-1, "")
KEY_ACTOR = "service key "  # with the key's id: whom the audit names for what a service key did


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row; ``at`` in seconds since the epoch, ``subject`` a connection (``slack@work``) or a key's id.

    ``audit_id`` tells rows of one millisecond apart. ``number`` and ``hash`` (hex) are those of the chain
    (see ``audit_chain``); None for a row that is not in it yet.
    """

    at: float
    actor: str
    action: str
    subject: str
    detail: Mapping[str, object]
    audit_id: str = ""
    number: int | None = None
    hash: str | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """A row that is to be written. ``audit_id``: one that is to be known again; None: a new one."""

    actor: str
    action: str
    subject: str
    detail: Mapping[str, object]
    audit_id: str | None = None


@dataclass(frozen=True, slots=True)
class About:
    """Which rows are wanted: those for which all of these hold; None: whatever it is.

    Args:
        actor, action: exactly that.
        subject: in it, upper or lower case.
        key: what was done with a key or to it, by its id.
        user: what a user did, or was done to that user.
        connection: what was done with ``slack@work``; ``slack``: with all connections of the service.
    """

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    key: str | None = None
    user: str | None = None
    connection: str | None = None


_WANTED: Mapping[str, tuple[str, Callable[[str], tuple[str, ...]]]] = {
    "actor": ("actor = {0}", lambda text: (text,)),
    "action": ("action = {0}", lambda text: (text,)),
    "subject": ("lower(subject) LIKE {0} ESCAPE '!'", lambda text: (f"%{_literal(text.lower())}%",)),
    "key": (
        "(actor = {0} OR (subject = {1} AND action LIKE 'key.%'))",
        lambda text: (KEY_ACTOR + text, text),
    ),
    "user": (
        "(actor = {0} OR (subject = {1} AND (action LIKE 'user.%' OR action LIKE 'admin.%')))",
        lambda text: (actor_of(text), text),
    ),
    "connection": (
        "(subject = {0} OR substr(subject, 1, length(CAST({1} AS TEXT))) = {1})",
        lambda text: (text, f"{text}@"),
    ),
}


def _literal(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


async def read(
    transaction: Transaction,
    *,
    since: float = 0.0,
    until: float | None = None,
    about: About = About(),  # frozen
    start: Mark | None = None,
    oldest_first: bool = False,
    limit: int = 1000,
) -> tuple[AuditEntry, ...]:
    """Rows from ``since`` on and before ``until`` (seconds since the epoch), newest first unless said.

    ``start``: the row after which, in that order, to go on.
    """
    params: list[object] = [to_ms(since), LAST[0] if until is None else to_ms(until)]
    params += start or (FIRST if oldest_first else LAST)
    where = ["at >= $1", "at < $2"]
    than, order = (">", "ASC") if oldest_first else ("<", "DESC")
    where.append(f"(at {than} $3 OR (at = $3 AND audit_id {than} $4))")
    for one in fields(about):
        text = getattr(about, one.name)
        if text is not None:
            condition, values = _WANTED[one.name]
            given = values(text)
            where.append(condition.format(*(f"${len(params) + at}" for at in range(1, len(given) + 1))))
            params += given
    rows = await transaction.fetch(
        "SELECT audit_id, at, actor, action, subject, detail, number, hash FROM audit "  # noqa: S608  # our own texts
        f"WHERE {' AND '.join(where)} ORDER BY at {order}, audit_id {order} LIMIT ${len(params) + 1}",
        *params,
        limit,
    )
    return tuple(_entry(row) for row in rows)


def _entry(row: Row) -> AuditEntry:
    stored = row["hash"]
    return AuditEntry(
        row["at"] / 1000,
        row["actor"],
        row["action"],
        row["subject"],
        json.loads(row["detail"]),
        row["audit_id"],
        row["number"],
        None if stored is None else bytes(stored).hex(),
    )
