"""All commands in one tree, of which a command line loads the branch that it names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Annotated

import typer

from proxy import __version__
from proxy.cli import output
from proxy.cli.session import JsonOption


@dataclass(frozen=True, slots=True)
class _Branch:
    """A command or a group of them: the module of this folder that has it, and its name there."""

    module: str
    name: str
    settings: Mapping[str, object] = field(default_factory=dict)


# Shown in this order.
_BRANCHES: Mapping[str, _Branch] = {
    "serve": _Branch("serve", "serve"),
    "demo": _Branch("demo", "demo"),
    "check": _Branch("services", "check"),
    "services": _Branch("services", "group"),
    "connectors": _Branch("services", "alias"),
    "connect": _Branch("connect", "connect"),
    "registrations": _Branch("registrations", "group"),
    "connections": _Branch("connections", "group"),
    "keys": _Branch("keys", "group"),
    "tokens": _Branch("tokens", "group"),
    "password": _Branch("password", "password"),
    "users": _Branch("users", "group"),
    "vault": _Branch("vault", "group"),
    "ca": _Branch("ca", "ca"),
    "snippet": _Branch("snippet", "snippet"),
    "run": _Branch("run", "run", {"allow_interspersed_args": False}),
    "audit": _Branch("history", "group"),
    "events": _Branch("events", "events"),
}
_OURS = ("version", "--version")  # in every tree


def tree(words: Sequence[str] = ()) -> typer.Typer:
    """The commands: all of them, unless the first word of a command line says which one is meant.

    Loading them all takes a second or two, most of it for what other commands need.
    """
    app = typer.Typer(
        name="connector-proxy",
        help="An authenticating reverse proxy: clients call APIs with a key, real tokens stay inside.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    meant = words[0] if words else ""
    for name in () if meant in _OURS else (meant,) if meant in _BRANCHES else _BRANCHES:
        branch = _BRANCHES[name]
        found = getattr(import_module(f"proxy.cli.{branch.module}"), branch.name)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name, context_settings=dict(branch.settings))(found)
    app.command("version")(_tell_version)
    return app


def _tell_version(*, as_json: JsonOption = False) -> None:
    """Print the version."""
    if as_json:
        output.document({"version": __version__})
    else:
        output.line(__version__)


def _version_asked(asked: bool) -> None:
    if asked:
        output.line(__version__)
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_version_asked, help="Print the version and end."),
    ] = False,
) -> None:
    """See the commands."""
