"""``connections``: the accounts whose tokens the proxy keeps."""

import time
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from proxy.cli import output
from proxy.cli.operator import Operator
from proxy.cli.session import FAILED, JsonOption
from proxy.cli.target import Target, all_pages, anywhere
from proxy.connectors import expiring
from proxy.connectors.causes import cause_of, remedy_of
from proxy.operations.moments import parse_moment
from proxy.operations.operation import Document

group = typer.Typer(help="Connected accounts.", no_args_is_help=True)
AddressArgument = Annotated[
    str,
    typer.Argument(metavar="SERVICE[@NAME]", help="A connection; without @NAME the service's default one."),
]


@group.command("list")
@anywhere
def listing(target: Target, *, as_json: JsonOption = False) -> None:
    """List the connections of the vault."""
    found = target.all("connections.list")
    if as_json:
        output.document(found)
        return
    output.table(
        ("service", "name", "default", "state", "account", "expires", "config"),
        [
            (
                one["service"],
                one["name"],
                "*" if one["default"] else "",
                one["state"] + (f" ({one['cause']})" if one["cause"] else ""),
                one["account"],
                one["expires_at"],
                output.pairs(one["config"] or {}),
            )
            for one in found
        ],
        empty="nothing is connected yet: 'connector-proxy connect SERVICE'",
    )
    for one in found:
        for told in _to_do(one, time.time()):
            output.note(told)


def _to_do(one: Document, now: float) -> Iterator[str]:
    """What a person has to know or do about a connection, one sentence each."""
    service, name = one["service"], one["name"]
    about, ends = f"{service}@{name}", one["refresh_expires_at"]
    if one["cause"] is not None:
        yield f"{about} {cause_of(one['cause']).sentence}: {remedy_of(one['cause'], service, name)}"
    left = expiring.days_left(None if ends is None else parse_moment(ends, now, 1), now)
    if left is not None:
        yield f"{about}: its refresh token ends in {left} days: {remedy_of(None, service, name)}"


@group.command("show")
@anywhere
def show(target: Target, address: AddressArgument, *, as_json: JsonOption = False) -> None:
    """Show one connection; its tokens are never shown."""
    known = dict(target.do("connections.show", path={"connection": address}))
    if as_json:
        output.document(known)
        return
    shown: dict[str, Any] = {name: output.pairs(known[name] or {}) for name in ("config", "metadata")}
    for name in ("scopes", "asked_scopes", "missing_scopes"):
        shown[name] = " ".join(known[name])
    output.table(("", ""), [(name, shown.get(name, value)) for name, value in known.items()], empty="")


@group.command("verify")
@anywhere
def verify(
    target: Target,
    address: Annotated[str | None, typer.Argument(metavar="SERVICE[@NAME]")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every connection of the vault.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Call the service once with the stored token: does it live, and whose is it? Exit status 1 if not."""
    if (address is None) != every:
        raise typer.BadParameter("name a connection, or say --all", param_hint="verify")

    async def work(operator: Operator) -> list[Document]:
        chosen = [address or ""]
        if every:
            chosen = [
                f"{one['service']}@{one['name']}" for one in await all_pages(operator, "connections.list")
            ]
        return [await operator.do("connections.verify", path={"connection": one}) for one in chosen]

    verdicts = target.look(work)
    if as_json:
        output.document(verdicts if every else verdicts[0])
    else:
        output.table(
            ("service", "name", "", "account", "reason"),
            [
                (one["service"], one["name"], "ok" if one["ok"] else "FAILED", one["account"], one["reason"])
                for one in verdicts
            ],
            empty="nothing is connected yet",
        )
    if not all(one["ok"] for one in verdicts):
        raise typer.Exit(FAILED)


def _change(target: Target, address: str, action: str, *, as_json: bool) -> None:
    """One change of one connection, told in the same way for all of them."""
    done = target.do(f"connections.{action}", path={"connection": address})
    if as_json:
        output.document(done)
    else:
        output.line(f"{done['service']}@{done['name']}: {_DONE[action]}.")
    target.changed()


_DONE = {
    "default": "is the default connection now",
    "freeze": "is frozen: its token is not handed out",
    "thaw": "is in use again",
}


@group.command("default")
@anywhere
def default(target: Target, address: AddressArgument, *, as_json: JsonOption = False) -> None:
    """Make it the connection that addresses without @NAME mean."""
    _change(target, address, "default", as_json=as_json)


@group.command("freeze")
@anywhere
def freeze(
    target: Target,
    address: Annotated[str | None, typer.Argument(metavar="SERVICE[@NAME]")] = None,
    *,
    thaw: Annotated[bool, typer.Option("--thaw", help="Use it again.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Every connection of the vault.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Stop handing out its token, without forgetting it."""
    if (address is None) != every:
        raise typer.BadParameter("name a connection, or say --all", param_hint="freeze")
    action = "thaw" if thaw else "freeze"
    if address is not None:
        _change(target, address, action, as_json=as_json)
        return
    done = target.do(f"connections.{action}_all")
    if as_json:
        output.document(done)
    else:
        state = "in use again" if thaw else "frozen: their tokens are not handed out"
        output.line(f"{done['count']} connection{'' if done['count'] == 1 else 's'} {state}.")
    target.changed()


@group.command("remove")
@anywhere
def remove(
    target: Target,
    address: AddressArgument,
    *,
    revoke: Annotated[
        bool | None,
        typer.Option("--revoke/--no-revoke", help="Tell the provider, or do not, whatever would be prudent."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a connection at its provider, as far as that can be, forget it and erase its tokens."""
    query = {} if revoke is None else {"revoke": revoke}
    done = target.do("connections.remove", path={"connection": address}, query=query)
    if as_json:
        output.document(done)
    else:
        output.line(f"{done['service']}@{done['name']}: is removed, and its tokens are erased here.")
        output.line(f"Its grant {done['about']}.")
    target.changed()
