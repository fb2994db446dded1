"""Warnings before access runs out: of refresh tokens that end, and of a vault that is a copy."""

from proxy.connectors import notices
from proxy.connectors.audit import Note
from proxy.connectors.rows import to_ms
from proxy.connectors.store import Row, Transaction
from proxy.connectors.vault_upkeep import UpkeepVault

WARN_DAYS = (14, 3)
_DAY_S = 86_400.0
_ENDING = (
    "SELECT connection_id, service, name, account, refresh_expires_at FROM connections "
    "WHERE state IN ('active', 'refreshing') AND refresh_token IS NOT NULL AND refresh_expires_at <= $1"
)


def days_left(refresh_expires_at: float | None, now: float) -> int | None:
    """Whole days until a refresh token ends, where that is near enough to be told; else None."""
    if refresh_expires_at is None or refresh_expires_at - now > max(WARN_DAYS) * _DAY_S:
        return None
    return max(0, int((refresh_expires_at - now) // _DAY_S))


async def warn(vault: UpkeepVault, now: float) -> int:
    """Put into outbox and audit what is due; how much that was. Each is told once, by whichever process."""
    async with vault.store.transaction() as transaction:
        if vault.is_copy:
            told = await _once(
                vault,
                transaction,
                now,
                mark=f"copy:{vault.incarnation}",
                action="vault.copy_found",
                subject="vault",
                detail={},
            )
            if told:
                await notices.add(transaction, now, "vault.copy_found", {})
            return int(told)
        ending = await transaction.fetch(_ENDING, to_ms(now + max(WARN_DAYS) * _DAY_S))
        return sum([await _warn(vault, transaction, now, row) for row in ending])


async def _warn(vault: UpkeepVault, transaction: Transaction, now: float, row: Row) -> bool:
    left_s = row["refresh_expires_at"] / 1000 - now
    threshold = min(days for days in WARN_DAYS if left_s <= days * _DAY_S)
    data = {
        **notices.about(row),
        "refresh_expires_at": row["refresh_expires_at"] / 1000,
        "days_left": max(0, int(left_s // _DAY_S)),
        "remedy": f"connector-proxy connect {row['service']} --connection {row['name']}",
    }
    mark = f"expiring:{row['connection_id']}:{row['refresh_expires_at']}:{threshold}"
    told = await _once(
        vault,
        transaction,
        now,
        mark=mark,
        action="connection.refresh_expiring",
        subject=f"{row['service']}@{row['name']}",
        detail={name: data[name] for name in ("refresh_expires_at", "days_left")},
    )
    if told:
        await notices.add(transaction, now, "connection.refresh_expiring", data)
    return told


async def _once(
    vault: UpkeepVault,
    transaction: Transaction,
    now: float,
    *,
    mark: str,
    action: str,
    subject: str,
    detail: dict[str, object],
) -> bool:
    """The audit's row remembers that it was told: it is kept far longer than a warning comes ahead."""
    if await transaction.fetch("SELECT 1 AS told FROM audit WHERE audit_id = $1", mark):
        return False
    await vault.audit_log.record(transaction, now, Note("proxy", action, subject, detail, mark))
    return True
