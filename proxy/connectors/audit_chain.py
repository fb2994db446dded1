"""The hash chain over audit rows: what a row's hash covers, and what a walk over the rows finds. No I/O.

Each row's hash is an HMAC over the hash before it, its number and everything that it tells; the head (how
many rows, the last hash, how far old rows were dropped) carries an HMAC of its own. The key comes out of the
vault's sealed identity: who writes to the database without the master key can make neither.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

from proxy.connectors.store import Row

Chained = Literal["at_once", "late", "after_fault"]
"""How a row came into the chain: with its writing; later, written by an older release (or by somebody else);
or with its writing, when the head that it follows was not genuine."""

FAULTS_TOLD = 20
_TOLD = ("audit_id", "at", "actor", "action", "subject", "detail", "chained")


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain stands: its last row, the last one dropped by retention, when it began (ms)."""

    number: int
    hash: bytes
    pruned: int
    pruned_hash: bytes
    begun_at: int

    @classmethod
    def of(cls, row: Row) -> Self:
        """From its row in the database, genuine or not."""
        return cls(
            row["number"], bytes(row["hash"]), row["pruned"], bytes(row["pruned_hash"]), row["begun_at"]
        )


@dataclass(frozen=True, slots=True)
class ChainFault:
    """Rows ``first`` to ``last``, by their numbers in the chain, and what is wrong with them."""

    first: int
    last: int
    what: str

    def __str__(self) -> str:
        rows = f"row {self.first}" if self.first == self.last else f"rows {self.first} to {self.last}"
        return f"{rows}: {self.what}"


class Chain:
    """Makes the hashes of one vault's chain."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "<Chain>"

    def hash_of(self, before: bytes, number: int, row: Row) -> bytes:
        """The hash of a row that follows the hash ``before`` as the chain's ``number``-th."""
        return self._digest(b"row", before, number, *(row[column] for column in _TOLD))

    def mac_of(self, head: Head) -> bytes:
        """What proves a head."""
        return self._digest(
            b"head", head.hash, head.number, head.pruned, head.pruned_hash.hex(), head.begun_at
        )

    def is_genuine(self, row: Row) -> bool:
        """Whether the head's row in the database was made with this key."""
        return hmac.compare_digest(self.mac_of(Head.of(row)), bytes(row["mac"]))

    def empty(self, begun_at: int) -> Head:
        """The head of a chain without rows."""
        start = self._digest(b"start", b"")
        return Head(0, start, 0, start, begun_at)

    def _digest(self, kind: bytes, before: bytes, *values: object) -> bytes:
        parts = (kind, before, *(str(value).encode() for value in values))
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._key, framed, hashlib.sha256)


@dataclass(slots=True)
class Walk:
    """Goes over rows in the order of their numbers, from a hash that is trusted; gathers what is wrong.

    Only the first faults are kept, ``count`` counts all.
    """

    chain: Chain
    number: int
    hash: bytes
    faults: list[ChainFault] = field(default_factory=list)
    count: int = 0
    rows: int = 0
    late: int = 0

    def over(self, rows: Sequence[Row]) -> None:
        """Take the next rows."""
        for row in rows:
            self._step(row)

    def _step(self, row: Row) -> None:
        number = row["number"]
        follows = number == self.number + 1
        if number > self.number + 1:
            self._fault(
                self.number + 1, number - 1, "missing; what stands after the gap is not proven either"
            )
        elif not follows:
            self._fault(number, number, f"is there twice ({_named(row)})")
        stored = bytes(row["hash"] or b"")
        if follows and not hmac.compare_digest(self.chain.hash_of(self.hash, number, row), stored):
            self._fault(number, number, f"was changed, moved or put in ({_named(row)})")
        elif row["chained"] == "after_fault":
            self._fault(
                number, number, f"the chain's head was changed before it: rows may be missing ({_named(row)})"
            )
        self.number, self.hash = number, stored
        self.rows += 1
        self.late += row["chained"] == "late"

    def compare(self, head: Head, *, is_genuine: bool, state: Row) -> None:
        """The walk is over: hold it against the head, and against what there is by the database's count.

        Args:
            head: up to which the walk went.
            is_genuine: whether it was made with the vault's key.
            state: ``n`` rows with numbers, the ``first`` and the ``last`` of them.
        """
        if not is_genuine:
            self._fault(
                head.number, head.number, "the chain's head is not genuine: rows after it may be missing"
            )
        if self.number < head.number:
            self._fault(self.number + 1, head.number, "missing at the end")
        elif is_genuine and not hmac.compare_digest(self.hash, head.hash):
            self._fault(head.number, head.number, "is not the last row that was written")
        if state["last"] > head.number:
            self._fault(head.number + 1, state["last"], "put in after the last row that was written")
        elif state["n"] > self.rows:
            first = min(state["first"], head.pruned)
            self._fault(first, head.number, f"{state['n'] - self.rows} put in among them")

    def recall(self, head: Head, number: int, remembered: str, *, stored: str | None) -> None:
        """Hold the chain against the hash that its row ``number`` had once; too old a one proves nothing."""
        if number > head.number:
            self._fault(
                head.number + 1,
                number,
                "were there once: taken off the end, or an earlier state was put back",
            )
        elif number >= head.pruned and stored != remembered:
            self._fault(number, number, "had another hash once: the chain was made anew, or put back")

    def _fault(self, first: int, last: int, what: str) -> None:
        self.count += 1
        if len(self.faults) < FAULTS_TOLD:
            self.faults.append(ChainFault(first, last, what))


def _named(row: Row) -> str:
    return f"{row['action']} of {row['subject']} by {row['actor']}"
