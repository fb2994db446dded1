"""What became of an attempt, written to the vault: every method one step, committed with those of others.

Tokens are saved as long as the connection's generation is still the one that was refreshed, whoever holds the
lease by then: a good token is never thrown away for another's failure. Failures count only while the fence is
the attempt's own (R112, R132).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.catalog.model import Catalog
from proxy.connectors import notices
from proxy.connectors.audit import Note
from proxy.connectors.model import Connection
from proxy.connectors.oauth.answers import Grant
from proxy.connectors.refresh.events import Flag
from proxy.connectors.refresh.lease import Claimed, Failure, after
from proxy.connectors.refresh.renewed import Renewed, renewed
from proxy.connectors.refresh.together import Decided, Moment, Step, Together
from proxy.connectors.rows import CONNECTION_COLUMNS, optional_ms, seal_tokens, to_ms
from proxy.connectors.store import Asked, Row
from proxy.connectors.vault import Vault

ACTOR = "refresh"
ACTION = "connection.refresh"
APP_MARK = "#"  # in ``last_error``: the fingerprint of the app that was refused comes after it
_SAVED_COLUMNS = (
    "connection_id", "state", "cause", "account", "scopes", "config", "metadata", "access_token",
    "refresh_token", "access_key_id", "refresh_key_id", "expires_at", "issued_at", "refresh_expires_at",
    "grant_mark", "generation", "updated_at", "sequence",
)  # fmt: skip
_SAVE = (
    "UPDATE connections SET "  # noqa: S608  # our own column names
    + ", ".join(f"{name} = ${at}" for at, name in enumerate(_SAVED_COLUMNS[1:], start=2))
    + " WHERE connection_id = $1"
)
_FIND = (
    f"SELECT {', '.join('c.' + name for name in CONNECTION_COLUMNS)}, r.fence "  # noqa: S608  # likewise
    "FROM connections c LEFT JOIN refreshes r ON r.connection_id = c.connection_id WHERE c.connection_id = $1"
)
_SUCCEEDED = """UPDATE refreshes SET failures = 0, retry_at = NULL, last_error = NULL, refreshed_at = $1
    WHERE connection_id = $2"""
_FORGET = """UPDATE refreshes SET owner = NULL, attempt_id = NULL, attempt_mark = NULL,
    attempt_generation = NULL, attempted_at = NULL, unknowns = 0, failures = $1, retry_at = $2,
    last_error = $3
    WHERE connection_id = $4 AND fence = $5"""
_KEEP = """UPDATE refreshes SET owner = NULL, unknowns = $1, failures = $2, retry_at = $3, last_error = $4
    WHERE connection_id = $5 AND fence = $6"""
_IS_OURS = "SELECT fence FROM refreshes WHERE connection_id = $1 AND fence = $2"
_BURY = """UPDATE connections SET state = 'reauthorization_required', cause = $1, expires_at = $2,
    updated_at = $3, sequence = $4 WHERE connection_id = $5 AND state IN ('active', 'refreshing')"""


@dataclass(frozen=True, slots=True)
class Saved:
    """The tokens of this generation are committed."""

    generation: int
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True, slots=True)
class Discarded:
    """The connection was removed or connected again meanwhile: its tokens are others now (R132).

    ``is_orphan``: it was removed, and nothing here holds the grant any more, so what the provider gave ends
    with it.
    """

    is_orphan: bool = False


class Settlement:
    """See the module. ``catalog`` gives the services in force; ``together`` takes the steps."""

    def __init__(
        self, vault: Vault, catalog: Callable[[], Catalog], clock: Callable[[], float], together: Together
    ) -> None:
        self._vault = vault
        self._catalog = catalog
        self._clock = clock
        self._together = together

    async def save(self, claimed: Claimed, grant: Grant) -> Saved | Discarded:
        """Commit what the provider gave; the lease is free and the intent gone afterwards (R113, R114).

        Saving the same again changes nothing.

        Raises:
            StoreError: it is not known to be stored; what the provider gave must not be forgotten.
        """
        connection_id = claimed.connection.connection_id
        outcome = await self._together.do(
            Step(
                connection_id,
                ((_FIND, connection_id),),
                lambda rows, at: self._saving(rows[0], claimed, grant, at),
                announces=True,
            )
        )
        if isinstance(outcome, Saved):
            self._vault.erase_soon()
        return outcome

    def _saving(
        self, rows: Sequence[Row], claimed: Claimed, grant: Grant, at: Moment
    ) -> Decided[Saved | Discarded]:
        before = claimed.connection
        detail: dict[str, object] = {"attempt": claimed.attempt_id, "generation": before.generation + 1}
        if not rows or rows[0]["generation"] != before.generation:
            outcome = self._moved(rows[0] if rows else None, claimed, grant)
            detail["outcome"] = "discarded" if isinstance(outcome, Discarded) else "repeated"
            return Decided(outcome, (_forgotten(claimed),), (_note(claimed, detail),))
        new = self._renewed(rows[0], claimed, grant, at.now, at.sequence)
        row = {**new.row, **seal_tokens(new.row, new.tokens, at.ring)}
        detail.update(outcome="refreshed", flags=list(new.flags))
        writes = (
            (_SAVE, *(row[name] for name in _SAVED_COLUMNS)),
            (_SUCCEEDED, to_ms(at.now), before.connection_id),
            _forgotten(claimed),
            *_tell(rows[0], new, at.now),
        )
        return Decided(Saved(new.row["generation"], new.flags), writes, (_note(claimed, detail),))

    def _moved(self, row: Row | None, claimed: Claimed, grant: Grant) -> Saved | Discarded:
        """Whether it is our own tokens that are there: a commit may have been kept that seemed to fail."""
        if row is None:
            return Discarded(is_orphan=not claimed.twins)
        if row["generation"] != claimed.connection.generation + 1:
            return Discarded()
        given = grant.tokens.refresh_token or claimed.tokens.refresh_token or grant.tokens.access_token
        is_ours = bytes(row["grant_mark"] or b"") == self._vault.mark(given)
        return Saved(row["generation"]) if is_ours else Discarded()

    def _renewed(self, row: Row, claimed: Claimed, grant: Grant, now: float, sequence: int) -> Renewed:
        return renewed(
            row,
            claimed.tokens,
            grant,
            service=self._catalog().get(claimed.connection.service),
            mark=self._vault.mark,
            now=now,
            sequence=sequence,
            is_shared=bool(claimed.twins),
        )

    def preview(self, claimed: Claimed, grant: Grant) -> Renewed:
        """What :meth:`save` would store, for serving while the store does not take it."""
        return self._renewed(claimed.row, claimed, grant, self._clock(), claimed.row["sequence"])

    async def fail(
        self, claimed: Claimed, failure: Failure, error: str, *, retry_after: float | None, spread: float
    ) -> float | None:
        """Note a failure that leaves the connection as it is; when to try again (None: at once).

        Raises:
            StoreError: it is not noted; the lease goes stale by itself.
        """
        left = after(claimed, failure, self._clock(), retry_after=retry_after, spread=spread)
        kept = f"{error}{APP_MARK}{claimed.app}" if failure == "application_fault" else error
        rest = (left.failures, optional_ms(left.retry_at), kept)
        write = (_KEEP, left.unknowns, *rest) if left.keeps_intent else (_FORGET, *rest)
        detail = {"outcome": failure, "error": error, "retry_at": left.retry_at}
        place = (claimed.connection.connection_id, claimed.fence)

        def decide(rows: Sequence[Sequence[Row]], _: Moment) -> Decided[None]:
            if not rows[0]:
                return Decided(None)  # the lease is another's by now
            note = _note(claimed, {"generation": claimed.connection.generation, **detail})
            return Decided(None, ((*write, *place),), (note,))

        await self._together.do(Step(place[0], ((_IS_OURS, *place),), decide))
        return left.retry_at

    async def bury(self, claimed: Claimed, cause: str) -> bool:
        """The provider said that the grant is gone: a person is needed, unless someone was faster (R120).

        A token that the service itself had refused before is over with it; another one may serve to its end.

        Returns:
            False when the connection is another's by now, so that nothing was changed.
        """
        connection_id = claimed.connection.connection_id
        return await self._together.do(
            Step(
                connection_id,
                ((_FIND, connection_id),),
                lambda rows, at: _burying(rows[0], claimed, cause, at),
                announces=True,
            )
        )


def _burying(rows: Sequence[Row], claimed: Claimed, cause: str, at: Moment) -> Decided[bool]:
    before = claimed.connection
    detail: dict[str, object] = {"cause": cause, "generation": before.generation}
    if not rows or (rows[0]["generation"], rows[0]["fence"]) != (before.generation, claimed.fence):
        note = _note(claimed, {**detail, "outcome": "overtaken"})
        return Decided(False, (_forgotten(claimed),), (note,))
    row, now = rows[0], to_ms(at.now)
    ended = row["expires_at"]
    if claimed.forced:
        ended = now if ended is None else min(now, ended)
    told = {**notices.about(row), "cause": cause}
    writes = (
        (_BURY, cause, ended, now, at.sequence, before.connection_id),
        (_FORGET, 0, None, cause, before.connection_id, claimed.fence),
        *notices.adding(at.now, "connection.reauthorization_required", told),
    )
    return Decided(True, writes, (_note(claimed, {**detail, "outcome": "dead"}),))


def _forgotten(claimed: Claimed) -> Asked:
    return (_FORGET, 0, None, None, claimed.connection.connection_id, claimed.fence)


def _tell(before: Row, new: Renewed, now: float) -> tuple[Asked, ...]:
    """News for the operator: a connection that lives again, or answers for another account or less."""
    told: dict[str, Any] = dict(notices.about(new.row))
    found: list[Asked] = []
    if before["state"] == "reauthorization_required":
        found += notices.adding(now, "connection.recovered", told)
    if "account_changed" in new.flags:
        found += notices.adding(now, "connection.account_changed", {**told, "before": before["account"]})
    if "scopes_reduced" in new.flags:
        found += notices.adding(now, "connection.scopes_reduced", told)
    return tuple(found)


def _note(claimed: Claimed, detail: Mapping[str, object]) -> Note:
    return noted(claimed.connection, {"attempt": claimed.attempt_id, **detail})


def noted(connection: Connection, detail: Mapping[str, object]) -> Note:
    """What the audit tells of a refresh."""
    return Note(ACTOR, ACTION, f"{connection.service}@{connection.name}", detail)
