"""``/users``: who signs in besides the first user, and what each may do."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from aiohttp import web
from multidict import MultiMapping

from proxy.connectors.users import ROLES
from proxy.control.dashboard.frame import Frame, number_of, sentences, text_of
from proxy.control.signin import Visitor
from proxy.errors import ConfigurationError

_BAD = 400
_HERE = "/users"
_BLANK = MappingProxyType({"name": "", "role": "", "email": "", "no_password": ""})


@dataclass(frozen=True, slots=True)
class UserPages:
    """A list, with forms for admins; passwords are made here and shown once."""

    frame: Frame

    def add(self, app: web.Application) -> None:
        """Serve them, and what they do."""
        frame = self.frame
        frame.shown(app, _HERE, self._list, least="admin")
        frame.done(app, _HERE, self._add, back=_HERE, least="admin")
        frame.done(app, "/users/{name}/role", self._role, back=_HERE, least="admin")
        frame.done(app, "/users/{name}/password", self._password, back=_HERE, least="admin")
        frame.done(app, "/users/{name}/remove", self._remove, back=_HERE, least="admin")

    async def _list(self, _: web.Request, visitor: Visitor) -> web.Response:
        return await self._page(visitor)

    async def _page(
        self,
        visitor: Visitor,
        *,
        given: Mapping[str, str] = _BLANK,
        fault: str = "",
        made: Mapping[str, Any] | None = None,
        status: int = 200,
    ) -> web.Response:
        return self.frame.page(
            "users",
            visitor,
            at="users",
            status=status,
            users=await self.frame.ground.vault.users(),
            roles=ROLES,
            given=given,
            fault=fault,
            made=made,
        )

    async def _do(
        self,
        action: str,
        visitor: Visitor,
        request: web.Request | None = None,
        body: Mapping[str, Any] | None = None,
        form: str = "",
    ) -> Mapping[str, Any]:
        path = {} if request is None else {"user": request.match_info["name"]}
        operating = self.frame.ground.operating
        return await operating.by(visitor, f"users.{action}", form=form, path=path, body=body or {})

    async def _add(self, _: web.Request, form: MultiMapping[str], visitor: Visitor) -> web.Response | str:
        name = text_of(form, "name")
        body = {
            "name": name,
            "role": text_of(form, "role"),
            "email": text_of(form, "email") or None,
            "with_password": "no_password" not in form,
        }
        try:
            made = await self._do("create", visitor, body=body, form=number_of(form))
        except ConfigurationError as error:
            given = {one: text_of(form, one) for one in _BLANK}
            return await self._page(visitor, given=given, fault=sentences(error), status=_BAD)
        self.frame.notices.add(visitor, "good", f"{name} may sign in now.")
        return _HERE if made["password"] is None else await self._page(visitor, made=made)

    async def _role(self, request: web.Request, form: MultiMapping[str], visitor: Visitor) -> str:
        done = await self._do("role", visitor, request, body={"role": text_of(form, "role")})
        self.frame.notices.add(visitor, "good", f"{done['name']} is {done['role']} now.")
        return _HERE

    async def _password(self, request: web.Request, _: MultiMapping[str], visitor: Visitor) -> web.Response:
        return await self._page(visitor, made=await self._do("password", visitor, request))

    async def _remove(self, request: web.Request, _: MultiMapping[str], visitor: Visitor) -> str:
        done = await self._do("remove", visitor, request)
        self.frame.notices.add(visitor, "good", f"{done['name']} is removed and signed out.")
        return _HERE
