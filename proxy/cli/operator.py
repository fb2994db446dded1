"""Whoever runs operations for a command: the vault of this machine, or a server."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from proxy.cli.session import ACTOR
from proxy.operations.operation import Asked, Document, Operation
from proxy.operations.table import OPERATIONS


class Operator(ABC):
    """Runs operations, here or elsewhere; documents and errors are the same."""

    async def do(
        self,
        name: str,
        *,
        path: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Document:
        """Run the operation of that name; its document.

        Raises:
            ConfigurationError: what is wrong with what was asked.
            StateError, StoreError, RemoteError: it could not be done.
        """
        return await self.run(OPERATIONS[name], Asked(ACTOR, path or {}, query or {}, body or {}))

    @abstractmethod
    async def run(self, operation: Operation, asked: Asked) -> Document:
        """Run one; as :meth:`do`. Elsewhere the server says who asks, not ``asked``."""
