"""What every command needs: settings, the vault, and errors that end as one sentence and an exit status."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import typer
import uvloop

from proxy import assembly, log
from proxy.catalog.model import Catalog
from proxy.cli import output
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, RequestError, SetupError, StoreError
from proxy.settings import Settings, environment, load_settings

FAILED, CONFIGURATION = 1, 3
_INTERRUPTED = 130
T = TypeVar("T")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Settings file; default: proxy.toml in this folder, if there is one."
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="FOLDER", help="Data folder with vault, master key and lock."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def settings_of(
    config: Path | None, data_dir: Path | None, overrides: Mapping[str, object] | None = None
) -> Settings:
    """Settings of file, environment and options.

    Raises:
        ConfigurationError: with every fault.
    """
    given = dict(overrides or {})
    if data_dir is not None:
        given["storage.data_dir"] = str(data_dir.absolute())
    return load_settings(config, environment(), given)


def with_vault(settings: Settings, work: Callable[[Vault, Catalog], Awaitable[T]]) -> T:
    """Run ``work`` on the data folder's vault, which is made if there is none.

    Raises:
        SetupError: folder, vault, master key or catalog do not allow it.
    """

    async def go() -> T:
        catalog = assembly.catalog_of(settings)
        vault = await assembly.open_vault(settings, catalog)
        try:
            for notice in vault.notices:
                output.note(notice)
            return await work(vault, catalog)
        finally:
            await vault.close()

    return run_loop(go())


def run_loop(work: Awaitable[T]) -> T:
    """Run a coroutine to its end on a loop of its own."""

    async def go() -> T:
        return await work

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(go())


def fail(message: str, status: int = FAILED) -> typer.Exit:
    """Say what is wrong on standard error; raise what this returns."""
    output.note(f"connector-proxy: {log.escape(log.mask_keys(message))}")
    return typer.Exit(status)


def run(app: typer.Typer) -> int:
    """Run the command line that this process was given; its exit status. No traceback for what is foreseen."""
    try:
        app(prog_name="connector-proxy")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED
    except ConfigurationError as error:
        return _told([str(fault) for fault in error.faults], CONFIGURATION)
    except StoreError as error:
        return _told([str(error)], FAILED)
    except SetupError as error:
        return _told([str(error)], CONFIGURATION)
    except RequestError as error:
        return _told([error.detail], FAILED)
    return 0


def _told(messages: list[str], status: int) -> int:
    for message in messages:
        fail(message)
    return status
