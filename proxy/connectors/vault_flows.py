"""The vault's flows: attempts to connect an account, one row each, readable by every process on the vault.

What a person or provider brings back is kept as a digest; what has to be remembered is sealed. Every step is
one conditional update, so that of two that claim the same link or state exactly one gets it.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from proxy.connectors.rows import to_json, to_ms
from proxy.connectors.seal import Place, key_id_of
from proxy.connectors.store import Row, Transaction
from proxy.connectors.vault_registrations import RegistrationVault
from proxy.secret import Secret

Stage = Literal["begun", "opened", "away", "back", "done", "failed"]
KEPT_S = 3600.0  # an ended or expired flow is remembered for whoever waits for it, then forgotten


def new_secret() -> Secret:
    """256 random bits, as text that may stand in an address or cookie."""
    return Secret(secrets.token_urlsafe(32))


def digest(secret: Secret) -> bytes:
    """What is stored of a link, state or cookie: random enough that a plain hash does (R95, R98)."""
    return hashlib.sha256(secret.reveal().encode()).digest()


def flow_place(row: Row) -> Place:
    """What a flow connects is part of its place: a row edited to another service or name does not open."""
    identity = [row["flow_id"], row["service"], row["name"], row["registration"]]
    return Place("flows", to_json(identity), "sealed")


@dataclass(frozen=True, slots=True)
class FlowRow:
    """A flow as it is stored; ``sealed`` opened, None once it has ended. Times: epoch seconds."""

    flow_id: str
    service: str
    name: str
    registration: str
    stage: Stage
    outcome: Mapping[str, Any] | None
    browser_digest: bytes | None
    sealed: Mapping[str, Any] | None
    created_at: float
    expires_at: float

    def is_held_by(self, browser: Secret | None) -> bool:
        """True for the one browser that opened the link (R97); compared in constant time."""
        if browser is None or self.browser_digest is None:
            return False
        return hmac.compare_digest(digest(browser), self.browser_digest)


class FlowVault(RegistrationVault):
    """The part of the vault that keeps flows."""

    async def add_flow(
        self, row: Mapping[str, str], sealed: Mapping[str, Any], *, link: Secret, expires_at: float
    ) -> None:
        """Store a new flow (``flow_id``, ``service``, ``name``, ``registration``), and forget old ones.

        Raises:
            StoreError: nothing was stored.
        """
        now = to_ms(self._clock())
        await self._data_keys.reserve(1)
        async with self._store.transaction() as transaction:
            await transaction.execute("DELETE FROM flows WHERE expires_at < $1", now - round(KEPT_S * 1000))
            blob = await self._seal_flow(transaction, row, sealed)
            await transaction.execute(
                "INSERT INTO flows (flow_id, service, name, registration, stage, link_digest, sealed, "
                "sealed_key_id, created_at, expires_at) VALUES ($1, $2, $3, $4, 'begun', $5, $6, $7, $8, $9)",
                *(row[column] for column in ("flow_id", "service", "name", "registration")),
                digest(link),
                blob,
                key_id_of(blob),
                now,
                to_ms(expires_at),
            )

    async def flow(self, flow_id: str) -> FlowRow | None:
        """The flow of that id, or None.

        Raises:
            StoreError, SealBrokenError: it cannot be read.
        """
        async with self._store.snapshot() as transaction:
            rows = await transaction.fetch("SELECT * FROM flows WHERE flow_id = $1", flow_id)
        return await self._flow_of(rows[0]) if rows else None

    async def flow_of_link(self, link: Secret) -> FlowRow | None:
        """The flow that a link was made for, whatever became of it."""
        async with self._store.snapshot() as transaction:
            rows = await transaction.fetch("SELECT * FROM flows WHERE link_digest = $1", digest(link))
        return await self._flow_of(rows[0]) if rows else None

    async def open_flow(self, flow_id: str, browser: Secret) -> bool:
        """Bind a flow to the browser that opens its link; False when that was done before, or is too late."""
        async with self._store.transaction() as transaction:
            changed = await transaction.execute(
                "UPDATE flows SET stage = 'opened', browser_digest = $2 "
                "WHERE flow_id = $1 AND stage = 'begun' AND expires_at > $3",
                flow_id,
                digest(browser),
                to_ms(self._clock()),
            )
        return changed > 0

    async def send_flow_away(self, one: FlowRow, sealed: Mapping[str, Any], state: Secret) -> bool:
        """Remember what the way to the provider needs; an earlier state of it counts no longer."""
        await self._data_keys.reserve(1)
        identity = {
            "flow_id": one.flow_id,
            "service": one.service,
            "name": one.name,
            "registration": one.registration,
        }
        async with self._store.transaction() as transaction:
            blob = await self._seal_flow(transaction, identity, sealed)
            changed = await transaction.execute(
                "UPDATE flows SET stage = 'away', state_digest = $2, sealed = $3, sealed_key_id = $4 "
                "WHERE flow_id = $1 AND stage IN ('opened', 'away') AND expires_at > $5",
                one.flow_id,
                digest(state),
                blob,
                key_id_of(blob),
                to_ms(self._clock()),
            )
        return changed > 0

    async def take_flow_back(self, state: Secret) -> FlowRow | None:
        """The flow that waits for this state, which is spent with it (R95); None when there is none.

        Raises:
            StoreError, SealBrokenError: it cannot be read; the state may be spent all the same.
        """
        wanted, select = digest(state), "SELECT * FROM flows WHERE state_digest = $1 AND stage = 'away'"
        async with self._store.snapshot() as reading:
            if not await reading.fetch(select, wanted):
                return None  # without taking the lock of writers: anybody can make a state up
        async with self._store.transaction() as transaction:
            rows = await transaction.fetch(select, wanted)
            if not rows or not hmac.compare_digest(bytes(rows[0]["state_digest"]), wanted):
                return None
            await transaction.execute(
                "UPDATE flows SET stage = 'back', state_digest = NULL WHERE flow_id = $1", rows[0]["flow_id"]
            )
        return await self._flow_of(rows[0])

    async def end_flow(self, flow_id: str, outcome: Mapping[str, Any], *, done: bool) -> bool:
        """Note what it came to and forget what was sealed; False when it had ended before."""
        async with self._store.transaction() as transaction:
            changed = await transaction.execute(
                "UPDATE flows SET stage = $2, outcome = $3, sealed = NULL, sealed_key_id = NULL, "
                "state_digest = NULL WHERE flow_id = $1 AND stage NOT IN ('done', 'failed')",
                flow_id,
                "done" if done else "failed",
                to_json(dict(outcome)),
            )
        return changed > 0

    async def _seal_flow(
        self, transaction: Transaction, row: Mapping[str, str], sealed: Mapping[str, Any]
    ) -> bytes:
        ring = await self._data_keys.current(transaction)
        return ring.seal(to_json(dict(sealed)).encode(), flow_place(row))

    async def _flow_of(self, row: Row) -> FlowRow:
        blob, sealed = row["sealed"], None
        if blob is not None:
            if row["sealed_key_id"] not in self._data_keys.ring.keys:
                await self._data_keys.reload()
            sealed = json.loads(self._data_keys.ring.open(bytes(blob), flow_place(row)))
        return FlowRow(
            flow_id=row["flow_id"],
            service=row["service"],
            name=row["name"],
            registration=row["registration"],
            stage=row["stage"],
            outcome=None if row["outcome"] is None else json.loads(row["outcome"]),
            browser_digest=None if row["browser_digest"] is None else bytes(row["browser_digest"]),
            sealed=sealed,
            created_at=row["created_at"] / 1000,
            expires_at=row["expires_at"] / 1000,
        )
