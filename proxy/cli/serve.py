"""``serve``: the server in the foreground."""

from pathlib import Path
from typing import Annotated

import typer

from proxy import lifecycle
from proxy.cli.session import ConfigOption, DataDirOption, settings_of
from proxy.settings import Settings, default_data_dir, environment


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
    workers: Annotated[int, typer.Option("--workers", min=1, help="Number of processes.")] = 1,
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
