"""The outbox: news for the operator's webhook, stored with the change that they tell about.

A row lives until it is delivered or a day old. ``body`` is what will be sent, so it never holds a secret.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.connectors.model import Connection
from proxy.connectors.rows import to_json, to_ms
from proxy.connectors.store import Asked, Row, Transaction

KEEP_S = 86_400.0
CLAIM_S = 60.0  # longer than a delivery takes; a sender that died lets go of its notice after this
EVENTS = frozenset(
    {
        "connection.reauthorization_required",
        "connection.recovered",
        "connection.refresh_expiring",
        "connection.frozen",
        "connection.thawed",
        "connection.account_changed",
        "connection.scopes_reduced",
        "vault.copy_found",
        "vault.adopted",
    }
)
_WAITS_S = (5, 15, 60, 300, 900, 1800, 3600)


@dataclass(frozen=True, slots=True)
class Notice:
    """One piece of news, claimed for a delivery. ``at``: epoch seconds; ``attempts`` counts this one too."""

    notice_id: str
    at: float
    body: str
    attempts: int


def about(connection: Connection | Row) -> Mapping[str, Any]:
    """The part of a notice that says which connection it is about."""
    names = {"id": "connection_id", "service": "service", "name": "name", "account": "account"}
    if isinstance(connection, Connection):
        told = {shown: getattr(connection, name) for shown, name in names.items()}
    else:
        told = {shown: connection[name] for shown, name in names.items()}
    return {"connection": told}


async def add(transaction: Transaction, now: float, event: str, data: Mapping[str, Any]) -> None:
    """Put a notice into the outbox, in the transaction of the change.

    Args:
        transaction: a writing one.
        now: epoch seconds.
        event: one of ``EVENTS``.
        data: JSON values; no secret, and no text of a provider.
    """
    await transaction.execute_each(*adding(now, event, data))


def adding(now: float, event: str, data: Mapping[str, Any]) -> tuple[Asked, ...]:
    """The statements of :func:`add`. Where no webhook is set nobody takes notices out: old ones go here."""
    if event not in EVENTS:
        raise ValueError(f"{event} is no event of the webhook")
    notice_id = f"msg_{secrets.token_hex(12)}"
    body = to_json({"id": notice_id, "type": event, "timestamp": round(now, 3), "data": dict(data)})
    return (
        ("DELETE FROM notices WHERE at < $1", to_ms(now - KEEP_S)),
        (
            "INSERT INTO notices (notice_id, at, body, attempts, next_at) VALUES ($1, $2, $3, 0, $2)",
            notice_id,
            to_ms(now),
            body,
        ),
    )


_DUE = "(next_at <= $1 OR next_at > $2)"


def _due_at(now: float) -> tuple[int, int]:
    """A ``next_at`` further off than any wait that we set was written under another time: it is due."""
    return to_ms(now), to_ms(now + 2 * max(_WAITS_S))


async def is_due(transaction: Transaction, now: float) -> bool:
    """Whether a notice waits to be sent."""
    rows = await transaction.fetch(f"SELECT 1 AS one FROM notices WHERE {_DUE} LIMIT 1", *_due_at(now))  # noqa: S608  # our own text
    return bool(rows)


async def claim(transaction: Transaction, now: float) -> Notice | None:
    """The oldest notice that is due, claimed: for ``CLAIM_S`` nobody else gets it."""
    rows = await transaction.fetch(
        f"SELECT notice_id, at, body, attempts FROM notices WHERE {_DUE} ORDER BY at, notice_id LIMIT 1",  # noqa: S608  # our own text
        *_due_at(now),
    )
    if not rows:
        return None
    found = rows[0]
    await transaction.execute(
        "UPDATE notices SET attempts = attempts + 1, next_at = $1 WHERE notice_id = $2",
        to_ms(now + CLAIM_S),
        found["notice_id"],
    )
    return Notice(found["notice_id"], found["at"] / 1000, found["body"], found["attempts"] + 1)


async def delivered(transaction: Transaction, notice: Notice) -> None:
    """Take a notice out."""
    await transaction.execute("DELETE FROM notices WHERE notice_id = $1", notice.notice_id)


async def failed(transaction: Transaction, notice: Notice, now: float, spread: float) -> bool:
    """Put a notice back for a later try; False when it is a day old and was dropped.

    ``spread`` (0 to 1) lengthens the wait by up to a fifth, so that proxies do not call together.
    """
    wait = _WAITS_S[min(notice.attempts, len(_WAITS_S)) - 1] * (1 + spread / 5)
    if now + wait > notice.at + KEEP_S:
        await delivered(transaction, notice)
        return False
    await transaction.execute(
        "UPDATE notices SET next_at = $1 WHERE notice_id = $2", to_ms(now + wait), notice.notice_id
    )
    return True


async def waiting(transaction: Transaction) -> int:
    """How many notices have not been delivered."""
    return int((await transaction.fetch("SELECT COUNT(*) AS n FROM notices"))[0]["n"])
