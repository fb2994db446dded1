"""What every command needs: settings, the vault, and errors that end as one sentence and an exit status."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import typer
import uvloop

from proxy import instance, log
from proxy.assembly.inforce import catalog_of
from proxy.assembly.vaults import open_vault, vault_exists
from proxy.catalog.model import Catalog
from proxy.cli import output
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, ConnectorProxyError, RequestError, SetupError, StoreError
from proxy.runtime import forbid_core_dumps
from proxy.settings import Settings, environment, load_settings

FAILED, CONFIGURATION = 1, 3
_INTERRUPTED = 130
ACTOR = "command line"
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
    """Run ``work`` on the vault, which is made if there is none.

    What it changed holds for callers of this data folder's server when this returns: that has taken it in.
    Others on the same database hear of it by themselves, usually at once (R89).

    Raises:
        SetupError: folder, vault, master key or catalog do not allow it.
    """

    async def go() -> T:
        catalog = catalog_of(settings)
        vault = await open_vault(settings, catalog)
        try:
            for notice in vault.notices:
                output.note(notice)
            before = vault.snapshot.sequence
            done = await work(vault, catalog)
            if vault.snapshot.sequence != before:
                folder, sequence = settings.storage.data_dir, vault.snapshot.sequence
                if not await instance.until_taken(folder, sequence):
                    output.note(
                        f"The server that is running has not taken this in within {instance.TAKEN_S:g} s."
                    )
            return done
        finally:
            await vault.close()

    return run_loop(go())


def vault_if_any(settings: Settings, work: Callable[[Vault, Catalog], Awaitable[T]]) -> T | None:
    """The same for commands that only look: where there is no vault yet, none is made, and None comes back.

    Raises:
        SetupError: there is one, but it does not open.
    """
    if not run_loop(vault_exists(settings)):
        return None
    return with_vault(settings, work)


def run_loop(work: Awaitable[T]) -> T:
    """Run a coroutine to its end on a loop of its own."""

    async def go() -> T:
        return await work

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(go())


def fail(message: str) -> int:
    """Say on standard error what is wrong; the exit status of a failure."""
    shown = "\n".join(log.escape(part) for part in log.mask_keys(message).split("\n"))
    output.note(f"connector-proxy: {shown}")
    return FAILED


def run(app: typer.Typer, args: Sequence[str] | None = None) -> int:
    """Run a command line, by default the one that this process was given; its exit status."""
    forbid_core_dumps()  # every command may have the vault open
    output.begin(sys.argv[1:] if args is None else args)
    try:
        app(args, prog_name="connector-proxy")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED
    except ConnectorProxyError as error:
        return _tell(error)
    except Exception as error:  # noqa: BLE001  # its text may hold a secret; where it came from does not
        places = "\n  ".join(log.frames_of(error.__traceback__))
        return fail(f"a fault of this program ({type(error).__qualname__}); it happened in\n  {places}")
    return 0


def _tell(error: ConnectorProxyError) -> int:
    """Say what is foreseen as sentences, never as a traceback."""
    if isinstance(error, ConfigurationError):
        for fault in error.faults:
            fail(str(fault))
        return CONFIGURATION
    fail(error.detail if isinstance(error, RequestError) else str(error))
    return CONFIGURATION if isinstance(error, SetupError) and not isinstance(error, StoreError) else FAILED
