"""What commands and pages show of connections: also what is under way."""

from dataclasses import replace

from proxy.connectors.model import Connection
from proxy.connectors.refresh.owner import is_dead, parse_owner, this_process
from proxy.connectors.vault import Vault


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
