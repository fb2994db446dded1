"""``connect`` and ``connections``: the accounts whose tokens the proxy keeps."""

import sys
import time
from collections.abc import Mapping
from typing import Annotated

import typer

from proxy import assembly
from proxy.catalog.model import Catalog, Scheme
from proxy.catalog.params import check_config
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
from proxy.connectors.checked import MAX_TOKEN
from proxy.connectors.model import Connection, Tokens
from proxy.connectors.sources import SOLE_CONNECTION
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, Fault
from proxy.operations import Granted, find_service, parse_address, parse_params, read_tokens
from proxy.secret import Secret
from proxy.settings import Settings
from proxy.verify import Verdict, verify_all

group = typer.Typer(help="Connected accounts.", no_args_is_help=True)
_MAX_INPUT = 4 * MAX_TOKEN
_SCHEMES: tuple[Scheme, ...] = ("bearer", "bot", "raw", "token", "basic")
AddressArgument = Annotated[
    str,
    typer.Argument(metavar="SERVICE[@NAME]", help="A connection; without @NAME the service's default one."),
]


def connect(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="A service's id: see 'services'.")],
    *,
    access_token_stdin: Annotated[
        bool, typer.Option("--access-token-stdin", help="Read the access token from standard input.")
    ] = False,
    tokens_stdin: Annotated[
        bool,
        typer.Option(
            "--tokens-stdin",
            help="Read JSON with access_token, refresh_token, expires_in or expires_at from standard input.",
        ),
    ] = False,
    connection: Annotated[
        str, typer.Option("--connection", metavar="NAME", help="Name of the account among several.")
    ] = SOLE_CONNECTION,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="NAME=VALUE", help="A value of connection_config; several times."),
    ] = None,
    scheme: Annotated[
        str | None,
        typer.Option("--scheme", metavar="|".join(_SCHEMES), help="How the token is sent, if not as usual."),
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store an account's token. Tokens come from standard input only, and are never shown."""
    if access_token_stdin == tokens_stdin:
        raise typer.BadParameter("say one of --access-token-stdin and --tokens-stdin", param_hint="connect")
    settings = settings_of(config, data_dir)
    catalog = assembly.catalog_of(settings)
    known = find_service(catalog, service)
    params = parse_params(param or ())
    check_config(known, params)  # before a token is asked for
    chosen = _scheme(scheme)
    granted = _read(service, whole=tokens_stdin)

    async def work(vault: Vault, _: Catalog) -> Connection:
        return await vault.save_connection(
            service,
            connection,
            granted.tokens,
            config=params,
            scheme=chosen,
            scopes=granted.scopes,
            actor=ACTOR,
        )

    saved = with_vault(settings, work)
    if as_json:
        output.document(_as_json(saved))
    else:
        default = ", the default one" if saved.is_default else ""
        output.line(f"{known.title}: account {saved.name!r} is connected{default}.")
        if known.verify is not None:
            output.note(f"Try it: connector-proxy connections verify {saved.service}@{saved.name}")
    if service in settings.sources and settings.sources[service].kind != "vault":
        output.note(
            f"Note: the settings take {service}'s tokens from a source of kind "
            f"{settings.sources[service].kind}, so this connection is not used until that is removed."
        )
    output.changed(settings.storage.data_dir)


def _scheme(text: str | None) -> Scheme | None:
    found = next((scheme for scheme in _SCHEMES if scheme == text), None)
    if text is not None and found is None:
        raise typer.BadParameter(f"is one of {', '.join(_SCHEMES)}", param_hint="--scheme")
    return found


def _read(service: str, *, whole: bool) -> Granted:
    """What standard input holds; never a prompt, so that no token is echoed or kept by a terminal."""
    option = "--tokens-stdin" if whole else "--access-token-stdin"
    if sys.stdin.isatty():
        raise typer.BadParameter(
            "standard input is a terminal, which would show the token: pipe it in, for example\n"
            f"  connector-proxy connect {service} {option} < token-file",
            param_hint=option,
        )
    body = sys.stdin.buffer.read(_MAX_INPUT + 1)
    if len(body) > _MAX_INPUT:
        raise ConfigurationError(Fault("standard input", f"holds more than {_MAX_INPUT} bytes"))
    if whole:
        return read_tokens(body, now=time.time())
    try:
        text = body.decode().strip("\r\n")
    except UnicodeDecodeError:
        raise ConfigurationError(Fault("standard input", "is not text in UTF-8")) from None
    if not text:
        raise ConfigurationError(Fault("standard input", "is empty: pipe the access token in"))
    return Granted(Tokens(Secret(text)))


# --- connections ----------------------------------------------------------------------------------------


@group.command("list")
def listing(
    *, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """List the connections of the vault."""
    settings = settings_of(config, data_dir)
    found = vault_if_any(settings, _connections) or ()
    if as_json:
        output.document([_as_json(one) for one in found])
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
                output.rfc3339(one.expires_at),
                output.pairs(one.config or {}),
            )
            for one in found
        ],
        empty="nothing is connected yet: 'connector-proxy connect SERVICE --access-token-stdin'",
    )


async def _connections(vault: Vault, _: Catalog) -> tuple[Connection, ...]:
    return vault.connections()


def _as_json(one: Connection) -> Mapping[str, object]:
    return {
        "id": one.connection_id,
        "service": one.service,
        "name": one.name,
        "default": one.is_default,
        "state": one.state,
        "cause": one.cause,
        "account": one.account,
        "scopes": list(one.scopes),
        "expires_at": output.rfc3339(one.expires_at),
        "config": None if one.config is None else dict(one.config),
    }


def _find(vault: Vault, text: str) -> Connection:
    service, name = parse_address(text, vault)
    for one in vault.connections():
        if (one.service, one.name) == (service, name):
            return one
    raise ConfigurationError(Fault(text[:120], "there is no such connection"))


@group.command("show")
def show(
    address: AddressArgument,
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one connection; its tokens are never shown."""

    async def work(vault: Vault, _: Catalog) -> Connection:
        return _find(vault, address)

    one = with_vault(settings_of(config, data_dir), work)
    known = {
        **_as_json(one),
        "scheme": one.scheme,
        "metadata": dict(one.metadata),
        "generation": one.generation,
        "created_at": output.rfc3339(one.created_at),
        "updated_at": output.rfc3339(one.updated_at),
    }
    if as_json:
        output.document(known)
        return
    shown = {"config": output.pairs(one.config or {}), "metadata": output.pairs(one.metadata)}
    shown["scopes"] = " ".join(one.scopes)
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
        chosen = vault.connections() if address is None else (_find(vault, address),)
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
            case "remove":
                await vault.remove(service, name, actor=ACTOR)
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
    "remove": "is removed, and its tokens are erased here (the provider was not told)",
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
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a connection and erase its tokens."""
    _change(settings_of(config, data_dir), address, "remove", as_json=as_json)
