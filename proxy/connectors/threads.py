"""The connectors module for programs without an event loop."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

from proxy.connectors.model import ConnectorConnection
from proxy.connectors.module import Connectors

_T = TypeVar("_T")


class SyncConnectors:
    """``Connectors`` behind plain calls, from any number of threads; a context manager.

    ``open_connectors`` gives an asynchronous context manager that yields the ``Connectors``; it is
    entered, used and left on a loop of our own, in a thread of our own.
    """

    def __init__(self, open_connectors: Callable[[], AbstractAsyncContextManager[Connectors]]) -> None:
        self._open = open_connectors
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._context: AbstractAsyncContextManager[Connectors] | None = None
        self._connectors: Connectors | None = None

    def __enter__(self) -> Self:
        if self._loop is not None:
            raise RuntimeError("SyncConnectors is open already")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="connectors", daemon=True)
        self._thread.start()
        self._context = self._open()
        try:
            self._connectors = self._call(self._context.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._context is not None:
                self._call(self._context.__aexit__(kind, error, trace))
        finally:
            self._stop()

    def get_connection(self, integration_type: str, *, connection: str | None = None) -> ConnectorConnection:
        """As :meth:`Connectors.get_connection`."""
        return self._call(self._opened().get_connection(integration_type, connection=connection))

    def get_access_token(self, integration_type: str, *, connection: str | None = None) -> str:
        """As :meth:`Connectors.get_access_token`."""
        return self._call(self._opened().get_access_token(integration_type, connection=connection))

    def _opened(self) -> Connectors:
        if self._connectors is None:
            raise RuntimeError("SyncConnectors is used inside its with block")
        return self._connectors

    def _call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        if self._loop is None:
            coroutine.close()
            raise RuntimeError("SyncConnectors is used inside its with block")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _stop(self) -> None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = self._context = self._connectors = None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
