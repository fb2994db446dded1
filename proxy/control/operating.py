"""Operations, run for whoever asks on the control plane: a program, or a person by a form of the dashboard.

Both take the same way: the form that the operation's schemas say, the scopes, the operation, its audit row.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Unpack

from aiohttp import hdrs

from proxy import instance
from proxy.admintokens import SCOPES, Scope, grants
from proxy.connectors.users import Role
from proxy.control.once import Once, UnderWayError, create
from proxy.control.signin import Visitor
from proxy.errors import ConfigurationError, Fault, ForbiddenError
from proxy.operations import fields
from proxy.operations.operation import Asked, Document, Given, Ground, Operation
from proxy.operations.schema import faults_of
from proxy.operations.table import OPERATIONS

FORM_KEPT_S = 600.0
"""How long a form that is sent again gets the answer that it had."""
_LOOKS, _LOOK_S = 50, 0.2
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

    async def by(self, visitor: Visitor, name: str, *, form: str = "", **given: Unpack[Given]) -> Document:
        """Run one for a person who is signed in; what the body does not give is None in it.

        Args:
            visitor: who.
            name: the operation's.
            form: the number of the form that was sent. Sent again with the same content by the same browser,
                as by a double click, it gets the answer that it had.
            given: to the operation.

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
        return await (self._once(form, visitor, operation, asked) if form else self.run(operation, asked))

    async def _once(self, form: str, visitor: Visitor, operation: Operation, asked: Asked) -> Document:
        ground = self.ground()
        number = f"form {form}\0{json.dumps(asked.body, sort_keys=True)}"  # corrected, it is another one
        once = Once.of(number, visitor.session, operation, asked)
        for _ in range(_LOOKS):
            try:
                made, _ = await create(
                    ground.vault, once, ground.now, lambda: self.run(operation, asked), kept_s=FORM_KEPT_S
                )
            except UnderWayError:
                await asyncio.sleep(_LOOK_S)
            else:
                return made
        raise ConfigurationError(Fault("", "this form was sent before and is still being worked on: wait"))
