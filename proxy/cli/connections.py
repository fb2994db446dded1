"""``connect`` and ``connections``: the accounts whose tokens the proxy keeps."""

import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from proxy import assembly
from proxy.catalog.model import Catalog
from proxy.cli import output
from proxy.cli.session import (
    ACTOR,
    FAILED,
    ConfigOption,
    DataDirOption,
    JsonOption,
    settings_of,
    vault_if_any,
    with_vault,
)
from proxy.connectors import expiring
from proxy.connectors.causes import cause_of, remedy_of
from proxy.connectors.model import Connection
from proxy.connectors.oauth.registration import Registrations
from proxy.connectors.refresh import states
from proxy.connectors.vault import Vault
from proxy.disconnecting import Disconnecting, Revocation
from proxy.forwarding.egress import Dialer
from proxy.operations.connections import (
    connection_details,
    connection_document,
    find_connection,
    parse_address,
)
from proxy.operations.moments import rfc3339
from proxy.settings import Settings
from proxy.verify import Verdict, verify_all

group = typer.Typer(help="Connected accounts.", no_args_is_help=True)
AddressArgument = Annotated[
    str,
    typer.Argument(metavar="SERVICE[@NAME]", help="A connection; without @NAME the service's default one."),
]


@group.command("list")
def listing(
    *, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """List the connections of the vault."""
    settings = settings_of(config, data_dir)
    found = vault_if_any(settings, _connections) or ()
    if as_json:
        output.document([connection_document(one) for one in found])
        return
    output.table(
        ("service", "name", "default", "state", "account", "expires", "config"),
        [
            (
                one.service,
                one.name,
                "*" if one.is_default else "",
                one.state + (f" ({one.cause})" if one.cause else ""),
                one.account,
                rfc3339(one.expires_at),
                output.pairs(one.config or {}),
            )
            for one in found
        ],
        empty="nothing is connected yet: 'connector-proxy connect SERVICE'",
    )
    for one in found:
        for told in _to_do(one, time.time()):
            output.note(told)


def _to_do(one: Connection, now: float) -> Iterator[str]:
    """What a person has to know or do about a connection, one sentence each."""
    about = f"{one.service}@{one.name}"
    if one.cause is not None:
        yield f"{about} {cause_of(one.cause).sentence}: {remedy_of(one.cause, one.service, one.name)}"
    left = expiring.days_left(one.refresh_expires_at, now)
    if left is not None:
        yield f"{about}: its refresh token ends in {left} days: {remedy_of(None, one.service, one.name)}"


async def _connections(vault: Vault, _: Catalog) -> tuple[Connection, ...]:
    return await states.shown(vault)


async def found(vault: Vault, text: str) -> Connection:
    """The connection of that address, for :func:`with_vault`.

    Raises:
        ConfigurationError: there is none.
    """
    return find_connection(vault, text)


@group.command("show")
def show(
    address: AddressArgument,
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one connection; its tokens are never shown."""

    async def work(vault: Vault, _: Catalog) -> tuple[Connection, states.Attempts]:
        named = find_connection(vault, address)
        same = (one for one in await states.shown(vault) if one.connection_id == named.connection_id)
        return next(same, named), await states.attempts(vault, named.connection_id)

    one, refreshes = with_vault(settings_of(config, data_dir), work)
    known: dict[str, Any] = dict(connection_details(one, refreshes))
    if as_json:
        output.document(known)
        return
    shown = {"config": output.pairs(one.config or {}), "metadata": output.pairs(one.metadata)}
    for name in ("scopes", "asked_scopes", "missing_scopes"):
        shown[name] = " ".join(known[name])
    output.table(("", ""), [(name, shown.get(name, value)) for name, value in known.items()], empty="")


@group.command("verify")
def verify(
    address: Annotated[str | None, typer.Argument(metavar="SERVICE[@NAME]")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every connection of the vault.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Call the service once with the stored token: does it live, and whose is it? Exit status 1 if not."""
    if (address is None) != every:
        raise typer.BadParameter("name a connection, or say --all", param_hint="verify")
    settings = settings_of(config, data_dir)

    async def work(vault: Vault, catalog: Catalog) -> tuple[Verdict, ...]:
        chosen = vault.connections() if address is None else (find_connection(vault, address),)
        return await verify_all(settings, vault, catalog, chosen)

    verdicts = with_vault(settings, work)
    if as_json:
        told = [_verdict(one) for one in verdicts]
        output.document(told if every else told[0])
    else:
        output.table(
            ("service", "name", "", "account", "reason"),
            [
                (one.service, one.connection, "ok" if one.ok else "FAILED", one.account, one.reason)
                for one in verdicts
            ],
            empty="nothing is connected yet",
        )
    if not all(one.ok for one in verdicts):
        raise typer.Exit(FAILED)


def _verdict(one: Verdict) -> Mapping[str, object]:
    return {
        "service": one.service,
        "name": one.connection,
        "ok": one.ok,
        "status": one.status,
        "account": one.account,
        "reason": one.reason,
    }


def _change(settings: Settings, address: str, action: str, *, as_json: bool) -> None:
    """One change of one connection, told in the same way for all of them."""

    async def work(vault: Vault, _: Catalog) -> tuple[str, str]:
        service, name = parse_address(address, vault)
        match action:
            case "default":
                await vault.set_default(service, name, actor=ACTOR)
            case _:
                await vault.freeze(service, name, frozen=action == "freeze", actor=ACTOR)
        return service, name

    service, name = with_vault(settings, work)
    if as_json:
        output.document({"service": service, "name": name, "done": action})
    else:
        output.line(f"{service}@{name}: {_DONE[action]}.")
    output.changed(settings.storage.data_dir)


_DONE = {
    "default": "is the default connection now",
    "freeze": "is frozen: its token is not handed out",
    "thaw": "is in use again",
}


@group.command("default")
def default(
    address: AddressArgument,
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make it the connection that addresses without @NAME mean."""
    _change(settings_of(config, data_dir), address, "default", as_json=as_json)


@group.command("freeze")
def freeze(
    address: AddressArgument,
    *,
    thaw: Annotated[bool, typer.Option("--thaw", help="Use it again.")] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop handing out its token, without forgetting it."""
    _change(settings_of(config, data_dir), address, "thaw" if thaw else "freeze", as_json=as_json)


@group.command("remove")
def remove(
    address: AddressArgument,
    *,
    revoke: Annotated[
        bool | None,
        typer.Option("--revoke/--no-revoke", help="Tell the provider, or do not, whatever would be prudent."),
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a connection at its provider, as far as that can be, forget it and erase its tokens."""
    settings = settings_of(config, data_dir)

    async def work(vault: Vault, catalog: Catalog) -> tuple[Connection, Revocation]:
        one = find_connection(vault, address)
        dialer = Dialer(settings.egress.policy(()), time.monotonic)
        registrations = Registrations(assembly.declared_registrations(settings, catalog), vault)
        ending = Disconnecting(vault, catalog, registrations, assembly.token_endpoint(dialer))
        try:
            return one, await ending.disconnect(one, wanted=revoke, actor=ACTOR)
        finally:
            await dialer.aclose()

    one, revocation = with_vault(settings, work)
    if as_json:
        told = {"service": one.service, "name": one.name, "done": "remove", "revoked": revocation.done}
        output.document({**told, "about": revocation.sentence})
    else:
        output.line(f"{one.service}@{one.name}: is removed, and its tokens are erased here.")
        output.line(f"Its grant {revocation.sentence}.")
    output.changed(settings.storage.data_dir)
