"""What commands and pages show of connections: also what is under way, and what refreshes came to."""

from dataclasses import dataclass, replace

from proxy.connectors.model import Connection
from proxy.connectors.refresh.ledger import lease_of
from proxy.connectors.refresh.owner import is_dead, parse_owner, this_process
from proxy.connectors.vault import Vault


@dataclass(frozen=True, slots=True)
class Attempts:
    """The refreshes of one connection: ``failures`` in a row, the last one's error, and when the next may be.

    Times are epoch seconds. ``unknown``: an attempt was cut off, so nobody knows whether the grant is spent.
    """

    refreshed_at: float | None = None
    failures: int = 0
    last_error: str | None = None
    retry_at: float | None = None
    unknown: bool = False


async def shown(vault: Vault) -> tuple[Connection, ...]:
    """The vault's connections; ``refreshing`` are those on which some process holds a lease and may live.

    Raises:
        StoreError: it cannot be read.
    """
    async with vault.store.snapshot() as transaction:
        rows = await transaction.fetch("SELECT connection_id, owner FROM refreshes WHERE owner IS NOT NULL")
    here = this_process()
    holders = {row["connection_id"]: parse_owner(row["owner"]) for row in rows}
    living = {
        connection_id for connection_id, owner in holders.items() if owner is None or not is_dead(owner, here)
    }
    return tuple(
        replace(one, state="refreshing") if one.connection_id in living and one.state == "active" else one
        for one in vault.connections()
    )


async def attempts(vault: Vault, connection_id: str) -> Attempts:
    """What refreshes of a connection came to.

    Raises:
        StoreError: it cannot be read.
    """
    async with vault.store.snapshot() as transaction:
        rows = await transaction.fetch("SELECT * FROM refreshes WHERE connection_id = $1", connection_id)
    if not rows:
        return Attempts()
    lease = lease_of(rows[0])
    is_open = lease.intent is not None and lease.intent.unknowns > 0
    return Attempts(lease.refreshed_at, lease.failures, lease.last_error, lease.retry_at, is_open)
