"""``connect``: an account by its provider's consent, or by tokens that are handed in."""

import sys
import time
from collections.abc import Mapping
from typing import Annotated

import typer

from proxy.assembly.inforce import catalog_of
from proxy.catalog.model import Scheme, Service
from proxy.catalog.params import check_config
from proxy.cli import output
from proxy.cli.authorize import Way, authorize, tell, titled
from proxy.cli.authorize_there import authorize_there
from proxy.cli.operator import Operator
from proxy.cli.session import FAILED, JsonOption
from proxy.cli.target import Target, anywhere
from proxy.connectors.checked import MAX_TOKEN
from proxy.connectors.flow import Wish
from proxy.connectors.model import Tokens
from proxy.connectors.sources import SOLE_CONNECTION
from proxy.errors import ConfigurationError, Fault
from proxy.operations.accounts import LISTED, tokens_body
from proxy.operations.connections import SCHEMES, Granted, parse_params, read_tokens
from proxy.operations.operation import Document
from proxy.operations.services import find_service
from proxy.secret import Secret

_MAX_INPUT = 4 * MAX_TOKEN


@anywhere
def connect(
    target: Target,
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
    as_json: JsonOption = False,
) -> None:
    """Connect an account: in a browser, at its provider. Or store a token of it, from standard input."""
    if access_token_stdin and tokens_stdin:
        raise typer.BadParameter("say one of --access-token-stdin and --tokens-stdin", param_hint="connect")
    params = parse_params(param or ())
    if target.remote is None:
        find_service(catalog_of(target.settings()), service)
    if not access_token_stdin and not tokens_stdin:
        if scheme is not None:
            raise typer.BadParameter("is for tokens that are handed in", param_hint="--scheme")
        wish = Wish(service, connection, params, tuple(scope) if scope else None, registration)
        _authorize(target, wish, Way(paste=paste, browser=not no_browser), as_json=as_json)
        return
    if scope or registration or paste:
        raise typer.BadParameter("goes with consent at the provider, not with a token", param_hint="connect")
    if target.remote is None:  # before a token is asked for
        _check(find_service(catalog_of(target.settings()), service), params)
    body: dict[str, object] = {"service": service, "name": connection, "config": params}
    if scheme is not None:
        body["scheme"] = _scheme(scheme)
    body |= _read(service, whole=tokens_stdin)

    async def work(operator: Operator) -> tuple[Document, Document]:
        saved = await operator.do("connections.import", body=body)
        return saved, await operator.do("services.show", path={"service": service})

    saved, known = target.run(work)
    if as_json:
        output.document(saved)
    else:
        default = ", the default one" if saved["default"] else ""
        output.line(f"{known['title']}: account {saved['name']!r} is connected{default}.")
        if known["can_verify"]:
            output.note(f"Try it: connector-proxy connections verify {saved['service']}@{saved['name']}")
    _tell_unused(target, service)
    target.changed()


def _check(service: Service, params: Mapping[str, str]) -> None:
    """See check_config; and with which option such values are given."""
    try:
        check_config(service, params)
    except ConfigurationError as error:
        how = Fault("--param", "gives them: --param NAME=VALUE, once for each")
        raise ConfigurationError(*error.faults, *([how] if service.params else [])) from None


def _authorize(target: Target, wish: Wish, way: Way, *, as_json: bool) -> None:
    if target.remote is not None and way.paste:
        raise typer.BadParameter("is for a vault on this machine", param_hint="--paste")
    if target.remote is None:
        settings = target.settings()
        outcome, title = authorize(settings, wish, way), titled(settings, wish.service)
    else:
        outcome, title = target.run(lambda operator: authorize_there(operator, wish, way))
    if not outcome.ok:
        if as_json:
            output.document(outcome.as_json())
        tell(outcome, title)
        raise typer.Exit(FAILED)
    if as_json:
        asked = {"connection": f"{wish.service}@{wish.name}"}
        whole = target.do("connections.show", path=asked)
        listed = {name: whole[name] for name in LISTED}
        output.document({**listed, "missing_scopes": list(outcome.missing)})
    else:
        tell(outcome, title)
    _tell_unused(target, wish.service)
    target.changed()


def _tell_unused(target: Target, service: str) -> None:
    if target.remote is not None:
        return
    settings = target.settings()
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


def _read(service: str, *, whole: bool) -> dict[str, object]:
    """What standard input holds, for the operation; no prompt, so no terminal echoes or keeps a token."""
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
        return tokens_body(read_tokens(body, now=time.time()))
    try:
        text = body.decode().strip("\r\n")
    except UnicodeDecodeError:
        raise ConfigurationError(Fault("standard input", "is not text in UTF-8")) from None
    if not text:
        raise ConfigurationError(Fault("standard input", "is empty: pipe the access token in"))
    return tokens_body(Granted(Tokens(Secret(text))))
