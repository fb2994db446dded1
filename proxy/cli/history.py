"""``audit``: who changed what, and when."""

import time
from typing import Annotated

import typer

from proxy.catalog.model import Catalog
from proxy.cli import output
from proxy.cli.session import ConfigOption, DataDirOption, JsonOption, settings_of, vault_if_any
from proxy.connectors.audit import AuditEntry
from proxy.connectors.vault import Vault
from proxy.operations.audit import audit_document
from proxy.operations.moments import parse_since, rfc3339

_MOST = 1_000_000


def audit(
    *,
    since: Annotated[
        str | None, typer.Option("--since", metavar="7d|12h|TIME", help="From then on; default: 90 days.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=_MOST, help="At most so many.")] = 1000,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the audit, newest first: every change of the vault, and every token revealed to a service key."""
    now = time.time()
    begin = 0.0 if since is None else parse_since(since, now=now)

    async def work(vault: Vault, _: Catalog) -> tuple[AuditEntry, ...]:
        return await vault.audit(since=begin, limit=limit)

    found = vault_if_any(settings_of(config, data_dir), work) or ()
    if as_json:
        output.document([audit_document(one) for one in found])
        return
    output.table(
        ("at", "actor", "action", "subject", "detail"),
        [(rfc3339(one.at), one.actor, one.action, one.subject, output.pairs(one.detail)) for one in found],
        empty="nothing is in the audit",
    )
