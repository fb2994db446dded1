"""``/password``: another password for the operator; every browser has to sign in again, except this one."""

from dataclasses import dataclass

from aiohttp import web
from multidict import MultiMapping

from proxy.control.dashboard.frame import Frame, MissingPageError
from proxy.control.signin import Visitor
from proxy.errors import ConfigurationError, Fault
from proxy.secret import Secret

SHORTEST, LONGEST = 12, 1024


@dataclass(frozen=True, slots=True)
class PasswordPage:
    """A form with the password in force and the new one twice."""

    frame: Frame

    def add(self, app: web.Application) -> None:
        """Serve it, and what it does."""
        self.frame.shown(app, "/password", self._show)
        self.frame.done(app, "/password", self._change, back="/password", least="viewer")

    async def _show(self, _: web.Request, visitor: Visitor) -> web.Response:
        ground = self.frame.ground
        if not ground.sign_in.ways.passwords or await ground.vault.password_of(visitor.user) is None:
            raise MissingPageError("You sign in through the identity provider, and have no password here.")
        return self.frame.page("password", visitor, at="", shortest=SHORTEST)

    async def _change(
        self, request: web.Request, form: MultiMapping[str], visitor: Visitor
    ) -> web.Response | str:
        if not self.frame.ground.sign_in.ways.passwords:
            raise MissingPageError("Passwords are switched off here.")
        new, again = str(form.get("new", "")), str(form.get("again", ""))
        if not SHORTEST <= len(new) <= LONGEST:
            raise ConfigurationError(Fault("New password", f"has at least {SHORTEST} characters"))
        if new != again:
            raise ConfigurationError(Fault("New password", "was typed in two different ways"))
        response = web.Response(status=303, headers={"Location": "/"})
        fault, visitor = await self.frame.ground.sign_in.change(
            request, response, visitor, current=Secret(str(form.get("current", ""))), new=Secret(new)
        )
        if fault:
            raise ConfigurationError(Fault("Current password", fault))
        told = "The password is changed. Other browsers have to sign in again."
        self.frame.notices.add(visitor, "good", told)
        return response
