"""All commands in one tree."""

from typing import Annotated

import typer

from proxy import __version__
from proxy.cli import (
    ca,
    connect,
    connections,
    demo,
    history,
    keys,
    output,
    password,
    registrations,
    run,
    serve,
    services,
    snippet,
    tokens,
    users,
    vault,
)
from proxy.cli.session import JsonOption

app = typer.Typer(
    name="connector-proxy",
    help="An authenticating reverse proxy: clients call APIs with a proxy key, the real tokens stay inside.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("check")(services.check)
app.add_typer(services.group, name="services")
app.add_typer(services.alias, name="connectors")
app.command("connect")(connect.connect)
app.add_typer(registrations.group, name="registrations")
app.add_typer(connections.group, name="connections")
app.add_typer(keys.group, name="keys")
app.add_typer(tokens.group, name="tokens")
app.command("password")(password.password)
app.add_typer(users.group, name="users")
app.add_typer(vault.group, name="vault")
app.command("ca")(ca.ca)
app.command("snippet")(snippet.snippet)
app.command("run", context_settings={"allow_interspersed_args": False})(run.run)
app.command("audit")(history.audit)


@app.command("version")
def tell_version(*, as_json: JsonOption = False) -> None:
    """Print the version."""
    if as_json:
        output.document({"version": __version__})
    else:
        output.line(__version__)


def _tell_version(asked: bool) -> None:
    if asked:
        output.line(__version__)
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_tell_version, help="Print the version and end."),
    ] = False,
) -> None:
    """See the commands."""
