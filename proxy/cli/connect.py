"""``connect``: an account by its provider's consent, or by tokens that are handed in."""

import sys
import time
from typing import Annotated

import typer

from proxy import assembly
from proxy.catalog.model import Catalog, Scheme, Service
from proxy.catalog.params import check_config
from proxy.cli import output
from proxy.cli.authorize import Way, authorize, tell
from proxy.cli.connections import found
from proxy.cli.session import ACTOR, FAILED, ConfigOption, DataDirOption, JsonOption, settings_of, with_vault
from proxy.connectors.checked import MAX_TOKEN
from proxy.connectors.flow import Wish
from proxy.connectors.model import Connection, Tokens
from proxy.connectors.sources import SOLE_CONNECTION
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, Fault
from proxy.operations.connections import SCHEMES, Granted, connection_document, parse_params, read_tokens
from proxy.operations.services import find_service
from proxy.secret import Secret
from proxy.settings import Settings

_MAX_INPUT = 4 * MAX_TOKEN


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
        typer.Option("--scheme", metavar="|".join(SCHEMES), help="How the token is sent, if not as usual."),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="SCOPE", help="A permission to ask for; several times."),
    ] = None,
    registration: Annotated[
        str | None,
        typer.Option("--registration", metavar="ID", help="The app to connect with: see 'registrations'."),
    ] = None,
    paste: Annotated[
        bool, typer.Option("--paste", help="No browser reaches this machine: carry the address by hand.")
    ] = False,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Show the address only, open no browser.")
    ] = False,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Connect an account: in a browser, at its provider. Or store a token of it, from standard input."""
    if access_token_stdin and tokens_stdin:
        raise typer.BadParameter("say one of --access-token-stdin and --tokens-stdin", param_hint="connect")
    settings = settings_of(config, data_dir)
    catalog = assembly.catalog_of(settings)
    known = find_service(catalog, service)
    params = parse_params(param or ())
    if not access_token_stdin and not tokens_stdin:
        if scheme is not None:
            raise typer.BadParameter("is for tokens that are handed in", param_hint="--scheme")
        wish = Wish(service, connection, params, tuple(scope) if scope else None, registration)
        _authorize(settings, wish, Way(paste=paste, browser=not no_browser), known, as_json=as_json)
        return
    if scope or registration or paste:
        raise typer.BadParameter("goes with consent at the provider, not with a token", param_hint="connect")
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
        output.document(connection_document(saved))
    else:
        default = ", the default one" if saved.is_default else ""
        output.line(f"{known.title}: account {saved.name!r} is connected{default}.")
        if known.verify is not None:
            output.note(f"Try it: connector-proxy connections verify {saved.service}@{saved.name}")
    _tell_unused(settings, service)
    output.changed(settings.storage.data_dir)


def _authorize(settings: Settings, wish: Wish, way: Way, service: Service, *, as_json: bool) -> None:
    outcome = authorize(settings, wish, way)
    if not outcome.ok:
        if as_json:
            output.document(outcome.as_json())
        tell(outcome, service.title)
        raise typer.Exit(FAILED)
    if as_json:
        connection = with_vault(settings, lambda vault, _: found(vault, f"{wish.service}@{wish.name}"))
        output.document({**connection_document(connection), "missing_scopes": list(outcome.missing)})
    else:
        tell(outcome, service.title)
    _tell_unused(settings, wish.service)
    output.changed(settings.storage.data_dir)


def _tell_unused(settings: Settings, service: str) -> None:
    if service in settings.sources and settings.sources[service].kind != "vault":
        output.note(
            f"Note: the settings take {service}'s tokens from a source of kind "
            f"{settings.sources[service].kind}, so this connection is not used until that is removed."
        )


def _scheme(text: str | None) -> Scheme | None:
    found = next((scheme for scheme in SCHEMES if scheme == text), None)
    if text is not None and found is None:
        raise typer.BadParameter(f"is one of {', '.join(SCHEMES)}", param_hint="--scheme")
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
