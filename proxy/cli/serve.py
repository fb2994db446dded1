"""``serve``: the server in the foreground."""

import os
from pathlib import Path
from typing import Annotated

import typer

from proxy import lifecycle
from proxy.cli.session import ConfigOption, DataDirOption, settings_of
from proxy.settings import Settings, default_data_dir, environment

_MOST_WORKERS = 256


def _workers(text: str | int) -> int:
    if text == "auto":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= _MOST_WORKERS:
        raise typer.BadParameter(f"a number from 1 to {_MOST_WORKERS}, or auto")
    return number


def serve(
    *,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    host: Annotated[str | None, typer.Option("--host", help="Address of the data plane.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="Port of the data plane; 0: any free one.")
    ] = None,
    tls_port: Annotated[
        int | None, typer.Option("--tls-port", min=0, max=65535, help="Also listen with TLS on this port.")
    ] = None,
    control_port: Annotated[
        int | None, typer.Option("--control-port", min=0, max=65535, help="Port of the control plane.")
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            metavar="N|auto",
            parser=_workers,
            help="Processes that forward; auto: one a core. From 2 on, one more supervises them.",
        ),
    ] = 1,
) -> None:
    """Run the proxy in the foreground until SIGTERM or Ctrl-C."""
    given = {"data.host": host, "data.port": port, "data.tls.port": tls_port, "control.port": control_port}
    overrides = {name: value for name, value in given.items() if value is not None}

    def load() -> Settings:
        return settings_of(config, data_dir, overrides)

    settings = load()
    named: Path = settings.storage.data_dir
    status = lifecycle.run(
        settings, load, folder_given=named != default_data_dir(environment()), workers=workers
    )
    raise typer.Exit(status)
