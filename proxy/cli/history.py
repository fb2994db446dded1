"""``audit``: who changed what, and when."""

from typing import Annotated

import typer

from proxy.cli import output
from proxy.cli.session import JsonOption
from proxy.cli.target import Target, anywhere

_MOST = 1_000_000


@anywhere
def audit(
    target: Target,
    *,
    since: Annotated[
        str | None, typer.Option("--since", metavar="7d|12h|TIME", help="From then on; default: 90 days.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=_MOST, help="At most so many.")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Show the audit, newest first: every change of the vault, and every token revealed to a service key."""
    found = target.all("audit.list", most=limit, since=since)
    if as_json:
        output.document(found)
        return
    output.table(
        ("at", "actor", "action", "subject", "detail"),
        [
            (one["at"], one["actor"], one["action"], one["subject"], output.pairs(one["detail"]))
            for one in found
        ],
        empty="nothing is in the audit",
    )
