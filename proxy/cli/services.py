"""``services`` and ``check``: what can be called, and whether the configuration is whole."""

from pathlib import Path
from typing import Annotated

import typer

from proxy.cli import output
from proxy.cli.session import CONFIGURATION, ConfigOption, DataDirOption, JsonOption, settings_of
from proxy.cli.target import Target, anywhere
from proxy.operations.services import new_service
from proxy.selfcheck import check_all

group = typer.Typer(help="Services that the proxy knows.", invoke_without_command=True)
alias = typer.Typer(help="The same in Base44's words.", no_args_is_help=True)


@group.callback()
@anywhere
def services(target: Target, context: typer.Context, *, as_json: JsonOption = False) -> None:
    """List the services."""
    if context.invoked_subcommand is None:
        _list(target, as_json=as_json)


@alias.command("list-available")
@anywhere
def list_available(target: Target, *, as_json: JsonOption = False) -> None:
    """List the services."""
    _list(target, as_json=as_json)


def _list(target: Target, *, as_json: bool) -> None:
    found = target.all("services.list")
    if as_json:
        output.document(found)
        return
    output.table(
        ("id", "title", "connected", "verified", "connection_config"),
        [
            (
                one["id"],
                one["title"],
                "yes" if one["connected"] else "",
                one["verified"] + (" (yours)" if one["yours"] else ""),
                " ".join(
                    param["name"] if param["required"] else f"[{param['name']}]" for param in one["params"]
                ),
            )
            for one in found
        ],
        empty="no services: see [services] enabled in the settings",
    )


@group.command("new")
def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The service's id: lower-case letters, digits, '_'.")
    ],
    *,
    directory: Annotated[
        Path | None,
        typer.Option("--directory", metavar="FOLDER", help="Default: [services] directory, else services."),
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a commented file for a service of your own."""
    settings = settings_of(config, data_dir)
    folder = directory or settings.services.directory or Path("services")
    path = new_service(name, folder)
    if as_json:
        output.document({"id": name, "file": str(path)})
    else:
        output.line(f"{path} is written: change its origin, then 'connector-proxy check'.")
    if settings.services.directory is None or folder.resolve() != settings.services.directory.resolve():
        output.note(f'To use it, say in the settings: [services] directory = "{folder}"')


def check(
    *, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """Check settings, services, keys and vault without serving; all faults at once, exit status 3."""
    report = check_all(lambda: settings_of(config, data_dir))
    if as_json:
        output.document(
            {
                "ok": not report.faults,
                "faults": [{"place": fault.place, "message": fault.message} for fault in report.faults],
                "warnings": [{"place": fault.place, "message": fault.message} for fault in report.warnings],
                "facts": dict(report.facts),
            }
        )
    else:
        for warning in report.warnings:
            output.note(f"warning: {warning}")
        for fault in report.faults:
            output.note(str(fault))
        for name, value in report.facts.items():
            output.line(f"{name}: {value}")
        count = len(report.faults)
        output.line(f"{count} fault{'' if count == 1 else 's'}" if count else "ok")
    if report.faults:
        raise typer.Exit(CONFIGURATION)
