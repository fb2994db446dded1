"""``services`` and ``check``: what can be called, and whether the configuration is whole."""

from pathlib import Path
from typing import Annotated

import typer

from proxy import assembly
from proxy.catalog.model import Catalog
from proxy.cli import output
from proxy.cli.session import (
    CONFIGURATION,
    ConfigOption,
    DataDirOption,
    JsonOption,
    settings_of,
    vault_if_any,
)
from proxy.connectors.vault import Vault
from proxy.operations.services import connected_services, new_service, service_document
from proxy.selfcheck import check_all
from proxy.settings import Settings

group = typer.Typer(help="Services that the proxy knows.", invoke_without_command=True)
alias = typer.Typer(help="The same in Base44's words.", no_args_is_help=True)


@group.callback()
def services(
    context: typer.Context,
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the services."""
    if context.invoked_subcommand is None:
        _list(settings_of(config, data_dir), as_json=as_json)


@alias.command("list-available")
def list_available(
    *, config: ConfigOption = None, data_dir: DataDirOption = None, as_json: JsonOption = False
) -> None:
    """List the services."""
    _list(settings_of(config, data_dir), as_json=as_json)


def _list(settings: Settings, *, as_json: bool) -> None:
    catalog = assembly.catalog_of(settings)

    async def work(vault: Vault, _: Catalog) -> frozenset[str]:
        return connected_services(settings, vault)

    connected = vault_if_any(settings, work)
    connected = connected_services(settings, None) if connected is None else connected
    if as_json:
        output.document([service_document(one, connected) for one in catalog.services.values()])
        return
    output.table(
        ("id", "title", "connected", "verified", "connection_config"),
        [
            (
                one.type_id,
                one.title,
                "yes" if one.type_id in connected else "",
                one.verified + (" (yours)" if one.user else ""),
                " ".join(
                    _param(param.name, required=param.required)
                    for param in one.params.values()
                    if not param.informational
                ),
            )
            for one in catalog.services.values()
        ],
        empty="no services: see [services] enabled in the settings",
    )


def _param(name: str, *, required: bool) -> str:
    return name if required else f"[{name}]"


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
