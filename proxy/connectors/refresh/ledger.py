"""Leases and intents in the vault's store; claims are committed with steps of others. ``lease`` decides.

The row of ``refreshes`` belongs to whoever raised its ``fence`` last.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from proxy.catalog.model import Catalog
from proxy.connectors.oauth.registration import Registration
from proxy.connectors.refresh.lease import (
    Claimed,
    HeldBy,
    Intent,
    Lease,
    Newer,
    Refusal,
    Standing,
    Unsearched,
    Unusable,
    Verdict,
    Wanted,
    judge,
    open_intent,
)
from proxy.connectors.refresh.owner import Owner
from proxy.connectors.refresh.settlement import APP_MARK, noted
from proxy.connectors.refresh.together import Decided, Moment, Step, Together
from proxy.connectors.refresh.ways import way_of
from proxy.connectors.rows import CONNECTION_COLUMNS, opened, optional_ms, to_ms
from proxy.connectors.store import Asked, Row
from proxy.connectors.vault import Vault
from proxy.errors import StoreError
from proxy.secret import Secret

_LEASE_COLUMNS = (
    "fence", "owner", "beat", "attempt_id", "attempt_mark", "attempt_generation", "attempted_at", "unknowns",
    "failures", "retry_at", "last_error", "forced_at", "refreshed_at",
)  # fmt: skip
_SELECT = (
    f"SELECT {', '.join('c.' + name for name in CONNECTION_COLUMNS)}, "  # noqa: S608  # our own names
    f"{', '.join('r.' + name for name in _LEASE_COLUMNS)}, i.incarnation "
    "FROM connections c LEFT JOIN refreshes r ON r.connection_id = c.connection_id CROSS JOIN identity i "
    "WHERE c.connection_id = $1"
)
_CLAIM = """INSERT INTO refreshes (connection_id, fence, owner, beat, attempt_id, attempt_mark,
    attempt_generation, attempted_at, unknowns, failures, forced_at)
    VALUES ($1, $2, $3, 0, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (connection_id) DO UPDATE SET fence = excluded.fence, owner = excluded.owner, beat = 0,
    attempt_id = excluded.attempt_id, attempt_mark = excluded.attempt_mark,
    attempt_generation = excluded.attempt_generation, attempted_at = excluded.attempted_at,
    unknowns = excluded.unknowns, failures = excluded.failures, retry_at = NULL,
    forced_at = excluded.forced_at"""
_FREE = """UPDATE refreshes SET owner = NULL, unknowns = $1,
    attempt_id = CASE WHEN $1 = 0 THEN NULL ELSE attempt_id END
    WHERE connection_id = $2 AND fence = $3"""
_TWINS = """SELECT t.service, t.name FROM connections c JOIN connections t
    ON t.grant_mark = c.grant_mark AND t.connection_id <> c.connection_id
    WHERE c.connection_id = $1 ORDER BY t.service, t.name"""
_KEPT = 8


@dataclass(frozen=True, slots=True)
class Holder:
    """Who is at a connection's refresh now, None: nobody; and the generation of its tokens."""

    owner: str | None
    fence: int
    beat: int
    generation: int


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A connection with an attempt whose end is not known; ``owner`` None: it is not under way."""

    connection_id: str
    owner: str | None
    fence: int
    beat: int


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def lease_of(row: Row) -> Lease:
    """The lease in a row that may have none."""
    if row["fence"] is None:
        return Lease()
    error, _, app = (row["last_error"] or "").partition(APP_MARK)
    intent = None
    if row["attempt_id"] is not None:
        intent = Intent(
            row["attempt_id"],
            bytes(row["attempt_mark"]),
            row["attempt_generation"],
            row["attempted_at"] / 1000,
            row["unknowns"],
        )
    return Lease(
        fence=row["fence"],
        owner=row["owner"],
        beat=row["beat"],
        intent=intent,
        failures=row["failures"],
        retry_at=_seconds(row["retry_at"]),
        last_error=error or None,
        refused_app=app or None,
        forced_at=_seconds(row["forced_at"]),
        refreshed_at=_seconds(row["refreshed_at"]),
    )


def _less(lease: Lease, over: Mapping[str, bool]) -> Lease:
    """The lease as it is, where the store does not know yet that an attempt of ours is over."""
    intent = lease.intent
    if intent is None or lease.owner is None or intent.attempt_id not in over:
        return lease
    if over[intent.attempt_id]:
        return replace(lease, owner=None, intent=replace(intent, unknowns=intent.unknowns + 1))
    return replace(lease, owner=None, intent=intent if intent.unknowns else None)


class Ledger:
    """See the module. ``catalog`` gives the services in force; ``together`` takes the steps.

    ``owner`` is this process.
    """

    def __init__(
        self, vault: Vault, catalog: Callable[[], Catalog], owner: Owner, together: Together
    ) -> None:
        self._vault = vault
        self._together = together
        self._catalog = catalog
        self._owner = str(owner)
        self._over: dict[str, dict[str, bool]] = {}  # attempts of ours that ended while the store was away

    def mark_of(self, registration: Registration) -> str:
        """A fingerprint by which an app that was mended is told from the one that was refused."""
        secret = registration.client_secret or Secret("")
        return self._vault.mark(Secret(f"{registration.client_id}\0{secret.reveal()}"))[:6].hex()

    # --- claims -----------------------------------------------------------------------------------------

    async def claim(self, connection_id: str, wanted: Wanted) -> Verdict:
        """Take the lease and note the intent, or tell why not; both in one commit (R116, R119).

        Raises:
            StoreError: the store cannot be written, so nothing may be spent.
        """
        await self._vault.data_keys.reserve(4)  # two tokens, twice: the row and the journal
        attempt_id = f"att_{secrets.token_hex(8)}"
        asks = ((_SELECT, connection_id), (_TWINS, connection_id))
        try:
            verdict = await self._together.do(
                Step(connection_id, asks, lambda rows, at: self._judged(rows, wanted, attempt_id, at))
            )
        except StoreError:  # the commit may have been kept all the same
            self._ended(connection_id, attempt_id, unknown=False)
            raise
        if isinstance(verdict, Claimed | Newer):
            self._over.pop(connection_id, None)
        return verdict

    def over(self, claimed: Claimed, *, unknown: bool) -> None:
        """An attempt of ours has ended, and the store could not be told; ``unknown``: how, nobody knows."""
        self._ended(claimed.connection.connection_id, claimed.attempt_id, unknown=unknown)

    def _ended(self, connection_id: str, attempt_id: str, *, unknown: bool) -> None:
        kept = self._over.setdefault(connection_id, {})
        kept[attempt_id] = unknown
        while len(kept) > _KEPT:
            del kept[next(iter(kept))]

    def _judged(
        self, found: Sequence[Sequence[Row]], wanted: Wanted, attempt_id: str, at: Moment
    ) -> Decided[Verdict]:
        rows, twins = found
        if not rows:
            return Decided(Unusable("removed"))
        standing = self._standing(rows[0], self._over.get(rows[0]["connection_id"], {}))
        refusal = judge(standing, wanted, at.now)
        intent = open_intent(standing, wanted)
        unknowns = 0 if intent is None else intent.unknowns + (standing.lease.owner is not None)
        is_owned = rows[0]["owner"] is not None
        if is_owned and refusal is not None and not isinstance(refusal, HeldBy | Unsearched):
            return _freed(standing, refusal, unknowns)
        if refusal is not None or standing.way is None or standing.tokens is None:
            return Decided(refusal or Unusable("nothing"))
        claimed = Claimed(
            fence=standing.lease.fence + 1,
            attempt_id=attempt_id,
            connection=standing.connection,
            tokens=standing.tokens,
            way=standing.way,
            unknowns=unknowns,
            failures=standing.lease.failures,
            begun_at=at.now if intent is None else intent.at,
            forced=wanted.forced,
            app=wanted.app,
            twins=() if standing.way.repeatable else _names(twins),
            row=rows[0],
        )
        return Decided(claimed, (self._claiming(claimed, standing, at.now),))

    def _claiming(self, claimed: Claimed, standing: Standing, now: float) -> Asked:
        forced_at = standing.lease.forced_at
        return (
            _CLAIM,
            claimed.connection.connection_id,
            claimed.fence,
            self._owner,
            claimed.attempt_id,
            standing.mark,
            claimed.connection.generation,
            to_ms(claimed.begun_at),
            claimed.unknowns,
            claimed.failures,
            to_ms(now) if claimed.forced else optional_ms(forced_at),
        )

    def _standing(self, row: Row, over: Mapping[str, bool]) -> Standing:
        connection, tokens = opened(row, self._vault.data_keys.ring)
        way = way_of(self._catalog().get(connection.service), connection, tokens)
        return Standing(
            connection=connection,
            tokens=tokens,
            way=way,
            mark=b"" if way is None else self._vault.mark(way.grant),
            lease=_less(lease_of(row), over),
            is_copy=not self._vault.is_own(row["incarnation"]),
        )

    async def beat(self, claimed: Claimed) -> bool:
        """Show that the holder lives; False when the lease is another's now."""
        async with self._vault.store.transaction() as transaction:
            touched = await transaction.execute(
                "UPDATE refreshes SET beat = beat + 1 WHERE connection_id = $1 AND fence = $2",
                claimed.connection.connection_id,
                claimed.fence,
            )
        return touched > 0

    async def look(self, connection_id: str) -> Holder | None:
        """Who is at it; None when the connection is gone."""
        async with self._vault.store.snapshot() as transaction:
            rows = await transaction.fetch(
                "SELECT c.generation, r.owner, r.fence, r.beat FROM connections c "
                "LEFT JOIN refreshes r ON r.connection_id = c.connection_id WHERE c.connection_id = $1",
                connection_id,
            )
        if not rows:
            return None
        row = rows[0]
        return Holder(row["owner"], row["fence"] or 0, row["beat"] or 0, row["generation"])

    async def unfinished(self) -> tuple[Unfinished, ...]:
        """Attempts that are under way, or whose end nobody knows."""
        async with self._vault.store.snapshot() as transaction:
            rows = await transaction.fetch(
                "SELECT connection_id, owner, fence, beat FROM refreshes "
                "WHERE owner IS NOT NULL OR attempt_id IS NOT NULL ORDER BY connection_id"
            )
        return tuple(
            Unfinished(row["connection_id"], row["owner"], row["fence"], row["beat"]) for row in rows
        )


def _freed(standing: Standing, refusal: Refusal, unknowns: int) -> Decided[Verdict]:
    """The lease of a holder that is gone ends, and no other is given."""
    connection = standing.connection
    detail = {
        "generation": connection.generation,
        "outcome": "interrupted",
        "refused": type(refusal).__name__,
    }
    write = (_FREE, unknowns, connection.connection_id, standing.lease.fence)
    return Decided(refusal, (write,), (noted(connection, detail),))


def _names(twins: Sequence[Row]) -> tuple[str, ...]:
    """Other connections with the same grant: with single-use tokens they end each other's (R129)."""
    return tuple(f"{row['service']}@{row['name']}" for row in twins)
