"""``/users``: who signs in besides the first user, and what each may do."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from aiohttp import web
from multidict import MultiMapping

from proxy.connectors.users import ROLES
from proxy.control.dashboard.frame import Frame, sentences, text_of
from proxy.control.signin import Visitor
from proxy.errors import ConfigurationError
from proxy.operations.users import add_user, read_role, renew_password
from proxy.secret import Secret

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
        made: tuple[str, Secret] | None = None,
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
            made=None if made is None else {"name": made[0], "password": made[1].reveal()},
        )

    async def _add(self, _: web.Request, form: MultiMapping[str], visitor: Visitor) -> web.Response | str:
        name = text_of(form, "name")
        try:
            made = await add_user(
                self.frame.ground.vault,
                name,
                text_of(form, "role"),
                email=text_of(form, "email") or None,
                with_password="no_password" not in form,
                actor=visitor.actor,
            )
        except ConfigurationError as error:
            given = {one: text_of(form, one) for one in _BLANK}
            return await self._page(visitor, given=given, fault=sentences(error), status=_BAD)
        self.frame.notices.add(visitor, "good", f"{name} may sign in now.")
        return _HERE if made is None else await self._page(visitor, made=(name, made))

    async def _role(self, request: web.Request, form: MultiMapping[str], visitor: Visitor) -> str:
        name, role = request.match_info["name"], read_role(text_of(form, "role"))
        await self.frame.ground.vault.change_role(name, role, actor=visitor.actor)
        self.frame.notices.add(visitor, "good", f"{name} is {role} now.")
        return _HERE

    async def _password(self, request: web.Request, _: MultiMapping[str], visitor: Visitor) -> web.Response:
        name = request.match_info["name"]
        made = await renew_password(self.frame.ground.vault, name, actor=visitor.actor)
        return await self._page(visitor, made=(name, made))

    async def _remove(self, request: web.Request, _: MultiMapping[str], visitor: Visitor) -> str:
        name = request.match_info["name"]
        await self.frame.ground.vault.remove_user(name, actor=visitor.actor)
        self.frame.notices.add(visitor, "good", f"{name} is removed and signed out.")
        return _HERE
