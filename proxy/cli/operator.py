"""Whoever runs operations for a command: the vault of this machine, or a server."""

from abc import ABC, abstractmethod
from typing import Unpack

from proxy.cli.session import ACTOR
from proxy.operations.operation import Asked, Document, Given, Operation
from proxy.operations.table import OPERATIONS


class Operator(ABC):
    """Runs operations, here or elsewhere; documents and errors are the same."""

    async def do(self, name: str, **given: Unpack[Given]) -> Document:
        """Run the operation of that name; its document.

        Raises:
            ConfigurationError: what is wrong with what was asked.
            StateError, StoreError, RemoteError: it could not be done.
        """
        return await self.run(OPERATIONS[name], Asked(ACTOR, **given))

    @abstractmethod
    async def run(self, operation: Operation, asked: Asked) -> Document:
        """Run one; as :meth:`do`. Elsewhere the server says who asks, not ``asked``."""
