"""``audit``: who changed what, and when; the same as a file; whether it is as it was written."""

import csv
import json
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from proxy.cli import output
from proxy.cli.operator import Operator
from proxy.cli.session import FAILED, JsonOption
from proxy.cli.target import Target, anywhere, pages

group = typer.Typer(help="Who changed or revealed what, and when.", invoke_without_command=True)
_MOST = 1_000_000
_COLUMNS = ("at", "actor", "action", "subject", "detail", "number", "hash")

SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="7d|12h|TIME", help="From then on; default: all there is.")
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="7d|12h|TIME", help="Before then.")]
KeyOption = Annotated[
    str | None, typer.Option("--key", metavar="ID|NAME", help="What a key did, or was done to it.")
]
UserOption = Annotated[
    str | None, typer.Option("--user", metavar="NAME", help="What a user did, or was done to that user.")
]
ConnectionOption = Annotated[
    str | None, typer.Option("--connection", metavar="SERVICE[@NAME]", help="What was done with accounts.")
]
ActionOption = Annotated[
    str | None, typer.Option("--action", metavar="ACTION", help="Such as token.reveal or key.create.")
]


@group.callback()
@anywhere
def audit(
    target: Target,
    context: typer.Context,
    *,
    since: SinceOption = None,
    until: UntilOption = None,
    key: KeyOption = None,
    user: UserOption = None,
    connection: ConnectionOption = None,
    action: ActionOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=_MOST, help="At most so many.")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Show the audit, newest first: every change of the vault, and every token revealed to a service key."""
    if context.invoked_subcommand is not None:
        return
    found = target.all(
        "audit.list",
        most=limit,
        since=since,
        until=until,
        key=key,
        user=user,
        connection=connection,
        action=action,
    )
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


@group.command("export")
@anywhere
def export(
    target: Target,
    *,
    since: SinceOption = None,
    until: UntilOption = None,
    key: KeyOption = None,
    user: UserOption = None,
    connection: ConnectionOption = None,
    action: ActionOption = None,
    form: Annotated[
        Literal["jsonl", "csv"], typer.Option("--format", help="One JSON object a line, or a table.")
    ] = "jsonl",
) -> None:
    """Write rows to standard output, oldest first, with their numbers and hashes in the chain."""
    wanted = {
        "since": since,
        "until": until,
        "key": key,
        "user": user,
        "connection": connection,
        "action": action,
        "order": "oldest",
    }
    query = {name: value for name, value in wanted.items() if value is not None}
    write = _csv_writer() if form == "csv" else _write_line

    async def work(operator: Operator) -> None:
        async for page in pages(operator, "audit.list", query):
            for one in page:
                write(one)

    target.look(work)


def _write_line(one: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(one, ensure_ascii=False) + "\n")


def _csv_writer() -> Any:
    rows = csv.writer(sys.stdout)
    rows.writerow(_COLUMNS)

    def write(one: Mapping[str, Any]) -> None:
        told = {**one, "detail": json.dumps(one["detail"], ensure_ascii=False)}
        rows.writerow([told[column] for column in _COLUMNS])

    return write


@group.command("verify")
@anywhere
def verify(
    target: Target,
    *,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="NUMBER:HASH", help="What this command told earlier: it has to fit."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check that no row was changed, removed or put in; exit status 1 if one was."""
    found = target.look(lambda operator: operator.do("audit.verify", query={"head": head} if head else {}))
    if as_json:
        output.document(found)
    else:
        _tell(found)
        output.line(f"head {found['head']}")
        output.line("intact" if found["intact"] else f"{found['fault_count']} faults")
    if not found["intact"]:
        raise typer.Exit(FAILED)


def _tell(found: Mapping[str, Any]) -> None:
    for fault in found["faults"]:
        one = fault["first"] == fault["last"]
        rows = f"row {fault['first']}" if one else f"rows {fault['first']} to {fault['last']}"
        output.note(f"{rows}: {fault['message']}")
    output.line(f"{found['rows']} rows since {found['since']}, {found['dropped']} before them dropped by age")
    if found["late"]:
        output.note(
            f"{found['late']} rows were taken in later: an older release wrote them, or somebody else"
        )
    if found["unchained"]:
        output.note(
            f"{found['unchained']} rows are not in the chain (yet): an older release, or somebody else"
        )
