"""Operations, run for whoever asks on the control plane: a program, or a person by a form of the dashboard.

Both take the same way: the form that the operation's schemas say, the scopes, the operation, its audit row.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Unpack

from aiohttp import hdrs

from proxy import instance
from proxy.admintokens import SCOPES, Scope, grants
from proxy.connectors.users import Role
from proxy.control.signin import Visitor
from proxy.errors import ConfigurationError, Fault, ForbiddenError
from proxy.operations import fields
from proxy.operations.operation import Asked, Document, Given, Ground, Operation
from proxy.operations.schema import faults_of
from proxy.operations.table import OPERATIONS

_READ: frozenset[Scope] = frozenset({"read"})
ROLE_SCOPES: Mapping[Role, frozenset[Scope]] = {
    "viewer": _READ,
    "operator": _READ | {"connections:write", "registrations:write", "keys:write"},
    "admin": frozenset(SCOPES),
}
"""What a signed-in user may do, in the words of admin tokens."""


@dataclass(frozen=True, slots=True)
class Operating:
    """Runs operations.

    Args:
        ground: what they stand on now.
        look: lets this process take in what was just changed.
    """

    ground: Callable[[], Ground]
    look: Callable[[], Awaitable[None]]

    async def run(self, operation: Operation, asked: Asked) -> Document:
        """Run one whose request has been read; what it changed holds for callers of this server afterwards.

        Raises:
            ConfigurationError, StateError, StoreError: as the operation does.
        """
        ground = self.ground()
        before = ground.vault.snapshot.sequence
        document = await operation.run(ground, asked)
        after = ground.vault.snapshot.sequence
        if after != before and operation.method != hdrs.METH_GET:
            await self.look()
            await instance.until_taken(ground.settings.storage.data_dir, after)
        return document

    async def by(self, visitor: Visitor, name: str, **given: Unpack[Given]) -> Document:
        """Run one for a person who is signed in; what the body does not give is None in it.

        Raises:
            ConfigurationError: every fault of what was given, or the operation's own.
            ForbiddenError: the person's role does not allow it.
            StateError, StoreError: as the operation does.
        """
        operation, scopes = OPERATIONS[name], ROLE_SCOPES[visitor.role]
        if not grants(scopes, operation.scopes):
            raise ForbiddenError(Fault("", f"this takes more than the role {visitor.role}"))
        given["body"] = {member: one for member, one in given.get("body", {}).items() if one is not None}
        asked = Asked(visitor.actor, scopes=scopes, **given)
        faults = [
            *(one for part, text in asked.path.items() for one in faults_of(fields.PATH[part], text, part)),
            *faults_of(fields.given(operation.query), dict(asked.query), ""),
            *([] if operation.body is None else faults_of(operation.body, asked.body, "")),
        ]
        if faults:
            raise ConfigurationError(*faults)
        return await self.run(operation, asked)
