"""Which proxy a command is about: the vault of this machine, or a server's admin API."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar, Unpack

import typer
from aiohttp import hdrs

from proxy.assembly.inforce import catalog_of
from proxy.catalog.model import Catalog
from proxy.cli import output
from proxy.cli.ground import opened_ground
from proxy.cli.operator import Operator
from proxy.cli.remote import Remote, opened_remote
from proxy.cli.session import (
    ConfigOption,
    DataDirOption,
    run_loop,
    settings_of,
    vault_if_any,
    with_vault,
)
from proxy.connectors.vault import Vault
from proxy.operations.operation import Asked, Document, Given, Ground, Operation
from proxy.operations.table import OPERATIONS
from proxy.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
_PAGE = 1000

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="https://HOST|unix:/PATH",
        help="Ask that server's control plane, instead of the vault here.",
    ),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="Holds the admin token for --url; default: CONNECTOR_PROXY_ADMIN_TOKEN.",
    ),
]
CaFileOption = Annotated[
    Path | None,
    typer.Option("--ca-file", metavar="FILE", help="Authority of the server's certificate, PEM, for --url."),
]


async def pages(
    operator: Operator,
    name: str,
    query: Mapping[str, Any] | None = None,
    *,
    path: Mapping[str, str] | None = None,
    most: int | None = None,
) -> AsyncIterator[list[Document]]:
    """The pages of a list, up to the first ``most`` items."""
    count = 0
    cursor: str | None = None
    while True:
        left = _PAGE if most is None else min(_PAGE, most - count)
        asked = {**(query or {}), "limit": left, **({"cursor": cursor} if cursor else {})}
        page = await operator.do(name, path=path or {}, query=asked)
        yield page["items"]
        count += len(page["items"])
        cursor = page["next"]
        if cursor is None or (most is not None and count >= most):
            return


async def all_pages(
    operator: Operator,
    name: str,
    query: Mapping[str, Any] | None = None,
    *,
    path: Mapping[str, str] | None = None,
    most: int | None = None,
) -> list[Document]:
    """The items of every page of a list, or the first ``most``."""
    return [one async for page in pages(operator, name, query, path=path, most=most) for one in page]


@dataclass(frozen=True, slots=True)
class Local(Operator):
    """Operations on an open vault."""

    ground: Callable[[], Ground]

    async def run(self, operation: Operation, asked: Asked) -> Document:
        """See Operator."""
        return await operation.run(self.ground(), asked)


@dataclass(frozen=True, slots=True)
class Target:
    """What the options say; made by :func:`anywhere`."""

    config: Path | None
    data_dir: Path | None
    remote: Remote | None

    def settings(self) -> Settings:
        """Of this machine; not for a remote one.

        Raises:
            ConfigurationError: with every fault.
        """
        return settings_of(self.config, self.data_dir)

    def run(self, work: Callable[[Operator], Awaitable[T]]) -> T:
        """Do something on the vault, which is made if there is none, or at the server.

        Raises:
            SetupError, RemoteError: it cannot be done.
        """
        if self.remote is not None:
            return run_loop(_remotely(self.remote, work))
        settings = self.settings()
        return with_vault(settings, lambda vault, catalog: _locally(settings, vault, catalog, work))

    def look(self, work: Callable[[Operator], Awaitable[T]]) -> T:
        """The same for what changes nothing: where there is no vault yet, none is made.

        Raises:
            SetupError, RemoteError: it cannot be done.
        """
        if self.remote is not None:
            return run_loop(_remotely(self.remote, work))
        settings = self.settings()
        found = vault_if_any(settings, lambda vault, catalog: _boxed(settings, vault, catalog, work))
        if found is None:
            return run_loop(_locally(settings, None, catalog_of(settings), work))
        return found[0]

    def do(self, name: str, **given: Unpack[Given]) -> Document:
        """Run one operation; a vault is made only for what has something to keep in it."""
        operation = OPERATIONS[name]
        way = self.run if operation.creates or operation.method == hdrs.METH_PUT else self.look
        return way(lambda operator: operator.do(name, **given))

    def all(
        self, name: str, *, path: Mapping[str, str] | None = None, most: int | None = None, **query: object
    ) -> list[Document]:
        """Everything, or the first ``most``, of a list; nothing is made."""
        given = {key: value for key, value in query.items() if value is not None}
        return self.look(lambda operator: all_pages(operator, name, given, path=path, most=most))

    def changed(self) -> None:
        """Say which vault was changed: every command that changes state does."""
        if self.remote is not None:
            output.note(f"server: {self.remote.shown}")
        else:
            output.changed(self.settings().storage.data_dir)


async def _boxed(
    settings: Settings, vault: Vault, catalog: Catalog, work: Callable[[Operator], Awaitable[T]]
) -> tuple[T]:
    """None as a result is told from no vault."""
    return (await _locally(settings, vault, catalog, work),)


async def _locally(
    settings: Settings, vault: Vault | None, catalog: Catalog, work: Callable[[Operator], Awaitable[T]]
) -> T:
    async with opened_ground(settings, vault, catalog) as ground:
        return await work(Local(ground))


async def _remotely(remote: Remote, work: Callable[[Operator], Awaitable[T]]) -> T:
    async with opened_remote(remote) as operator:
        return await work(operator)


def anywhere(command: Callable[Concatenate[Target, P], None]) -> Callable[..., None]:
    """A command that takes the options which say what it is about, and gets them as its first parameter."""

    def chosen(
        *,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
        url: UrlOption = None,
        token_file: TokenFileOption = None,
        ca_file: CaFileOption = None,
    ) -> Target:
        if url is None and (token_file or ca_file):
            raise typer.BadParameter("goes with --url", param_hint="--token-file, --ca-file")
        if url is not None and (config or data_dir):
            raise typer.BadParameter("goes without --config and --data-dir", param_hint="--url")
        return Target(config, data_dir, None if url is None else Remote.of(url, token_file, ca_file))

    options = inspect.signature(chosen).parameters

    def run(**given: Any) -> None:
        target = chosen(**{name: given.pop(name) for name in options})
        command(target, **given)  # type: ignore[call-arg]  # what the signature below says

    own = list(inspect.signature(command).parameters.values())[1:]
    before = [one for one in own if one.name != "as_json"]
    after = [one for one in own if one.name == "as_json"]
    shown = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*before, *options.values(), *after)]
    run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {one.name: one.annotation for one in shown}
    run.__doc__, run.__name__ = command.__doc__, command.__name__
    return run
