"""``registrations``: the apps at providers with which accounts are connected."""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from proxy.assembly.inforce import catalog_of
from proxy.cli import output
from proxy.cli.session import JsonOption
from proxy.cli.target import Target, anywhere
from proxy.connectors.oauth.registration import Registration
from proxy.errors import ConfigurationError, Fault
from proxy.operations.registrations import family_of
from proxy.secret import Secret

group = typer.Typer(help="Apps registered at providers.", no_args_is_help=True)
_MAX_SECRET = 8192


@group.command("set")
@anywhere
def save(
    target: Target,
    registration_id: Annotated[
        str, typer.Argument(metavar="ID", help="A family (google, slack, ...), a service's id, or any name.")
    ],
    *,
    client_id: Annotated[str, typer.Option("--client-id", metavar="ID", help="As the provider gave it.")],
    client_secret_stdin: Annotated[
        bool, typer.Option("--client-secret-stdin", help="Read the client secret from standard input.")
    ] = False,
    family: Annotated[
        str | None,
        typer.Option("--family", metavar="NAME", help="Whose app it is, where ID does not say it."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Keep the client id and secret of an app, sealed; another one of that ID is replaced."""
    body = {"client_id": client_id} | ({} if family is None else {"family": family})
    if target.remote is None:  # before a secret is asked for
        family_of(catalog_of(target.settings()), registration_id, family)
    if client_secret_stdin:
        body["client_secret"] = _read_secret().reveal()
    told = target.do("registrations.set", path={"registration": registration_id}, body=body)
    if as_json:
        output.document(told)
    else:
        output.line(f"{registration_id}: the app is kept, for {', '.join(told['services'])}.")
        output.line(f"Its redirect address at the provider: {told['redirect_address']}")
    target.changed()


@group.command("list")
@anywhere
def listing(target: Target, *, as_json: JsonOption = False) -> None:
    """List the apps with the redirect address that each needs at its provider. Secrets are never shown."""
    told = target.all("registrations.list")
    if as_json:
        output.document(told)
        return
    output.table(
        ("id", "family", "client id", "secret", "from", "redirect address", "services"),
        [
            (
                one["id"],
                one["family"],
                one["client_id"],
                _secret_word(one),
                "settings" if one["declared"] else "vault",
                one["redirect_address"],
                " ".join(one["services"]),
            )
            for one in told
        ],
        empty="no app is registered: 'connector-proxy connect SERVICE' says what a provider needs",
    )
    for one in told:
        if one.get("damaged"):
            output.line(Registration(one["id"], one["family"], one["client_id"], damaged=True).mending)


@group.command("remove")
@anywhere
def remove(
    target: Target,
    registration_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Forget an app. Connections made with it serve until their tokens end; they are not renewed any more."""
    done = target.do("registrations.remove", path={"registration": registration_id})
    if as_json:
        output.document(done)
    else:
        output.line(f"{registration_id}: is forgotten.")
    target.changed()


def _secret_word(one: Mapping[str, Any]) -> str:
    if one.get("damaged"):  # servers before this release do not tell
        return "does not open"
    return "kept" if one["has_secret"] else "none"


def _read_secret() -> Secret:
    if sys.stdin.isatty():
        raise typer.BadParameter(
            "standard input is a terminal, which would show the secret: pipe it in",
            param_hint="--client-secret-stdin",
        )
    body = sys.stdin.buffer.read(_MAX_SECRET + 1)
    try:
        text = body.decode().strip("\r\n")
    except UnicodeDecodeError:
        text = ""
    if not text or len(body) > _MAX_SECRET:
        raise ConfigurationError(Fault("standard input", "holds no client secret"))
    return Secret(text)
