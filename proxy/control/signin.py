"""Signing in to the control plane: users with passwords, sessions that end, slowed guesses.

The other way, an identity provider, is ``proxy.control.oidc``; its sessions are these.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from aiohttp import web

from proxy import log
from proxy.connectors.outcomes import FlowRefused
from proxy.connectors.passwords import hashed, is_right
from proxy.connectors.users import FIRST, Role, SignedIn, actor_of
from proxy.connectors.vault import Vault
from proxy.connectors.vault_flows import new_secret
from proxy.control.attempts import Attempts, KnownBrowsers
from proxy.control.browsers import Cookies, check_token, form_token, read_form
from proxy.control.html import Pages
from proxy.control.origin import WrongOriginError, elsewhere
from proxy.control.returning import safe_return
from proxy.errors import StateError, StoreError
from proxy.secret import Secret

SESSION_S = 12 * 3600.0
_FORM_S = 3600.0
_KNOWN, _KNOWN_S = "known", 90 * 86_400.0
_LONGEST_NAME = 63
_HOME = "/"


@dataclass(frozen=True, slots=True)
class Ways:
    """How people may sign in.

    Args:
        passwords: whether passwords count.
        provider: what the identity provider is called; None: there is none.
        public_url: origin that the provider sends browsers back to; needed with a provider.
    """

    passwords: bool = True
    provider: str | None = None
    public_url: str = ""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whose browser asks. ``session`` is what that browser keeps; forms for it are made from that."""

    session: Secret
    signed_in: SignedIn

    @property
    def user(self) -> str:
        """The user's name."""
        return self.signed_in.user

    @property
    def role(self) -> Role:
        """What the user may do."""
        return self.signed_in.role

    @property
    def actor(self) -> str:
        """Whom the audit names."""
        return self.signed_in.actor

    def may(self, least: Role) -> bool:
        """Whether the user's role is that one or one above it."""
        return self.signed_in.may(least)


_PASSWORDS = Ways()


class SignIn:
    """The pages ``/sign-in`` and ``/sign-out``, and the question whether a browser is signed in.

    Args:
        vault: has password and sessions.
        pages, cookies: see there.
        ways: how people may sign in.
        clock: seconds since the epoch.
        attempts: slows guessing.
    """

    def __init__(
        self,
        vault: Vault,
        pages: Pages,
        cookies: Cookies,
        ways: Ways = _PASSWORDS,
        *,
        clock: Callable[[], float] = time.time,
        attempts: Attempts | None = None,
    ) -> None:
        self._vault = vault
        self._pages = pages
        self._cookies = cookies
        self.ways = ways
        self._clock = clock
        self._attempts = Attempts() if attempts is None else attempts
        self._known = KnownBrowsers(vault.secret_for("known browsers"))
        self._guessing = asyncio.Lock()  # one at a time: each takes 32 MiB

    def add(self, app: web.Application) -> None:
        """Serve the pages."""
        app.router.add_get("/sign-in", self._told(self._show))
        app.router.add_post("/sign-in", self._told(self._sign_in))
        app.router.add_post("/sign-out", self._told(self._sign_out))

    def _told(
        self, handler: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[..., Awaitable[web.Response]]:
        """Whatever stops a page is told on a page, with what to do."""

        async def page(request: web.Request) -> web.Response:
            try:
                return await handler(request)
            except FlowRefused as refused:
                again = "Open this control plane's address anew and sign in there."
                return self._problem("That was no form of this browser", refused.detail, again, status=400)
            except WrongOriginError as wrong:
                return self._problem(wrong.heading, str(wrong), status=400)
            except (StoreError, StateError):
                text = "The vault cannot be read or written for now: see the log."
                return self._problem("Not just now", text, status=503)

        return page

    def _problem(self, heading: str, *texts: str, status: int) -> web.Response:
        return self._pages.page("problem", status=status, heading=heading, texts=texts)

    @property
    def session_cookie(self) -> str:
        """The name of a signed-in browser's cookie."""
        return self._cookies.name("session")

    async def visitor(self, request: web.Request) -> Visitor | None:
        """Whose browser this is; None when it is not signed in.

        Raises:
            StoreError: that cannot be told.
        """
        session = self._cookies.read(request, "session")
        signed_in = None if session is None else await self._vault.signed_in(session)
        return None if session is None or signed_in is None else Visitor(session, signed_in)

    @staticmethod
    def ask(request: web.Request) -> web.Response:
        """To the sign-in page, and back here afterwards."""
        place = "/sign-in?" + urlencode({"return_to": str(request.rel_url)})
        return web.Response(status=303, headers={"Location": place})

    async def _show(self, request: web.Request) -> web.Response:
        if self.ways.provider is not None:
            place = elsewhere(request, self.ways.public_url)  # where the provider sends the browser back to
            if place is not None:
                return _redirect(place)
        if await self.visitor(request) is not None:
            return _redirect(safe_return(request.query.get("return_to"), ()) or _HOME)
        return self._form(request, request.query.get("return_to"))

    def _form(
        self,
        request: web.Request,
        return_to: str | None,
        *,
        user: str = FIRST,
        fault: str = "",
        status: int = 200,
    ) -> web.Response:
        secret = self._cookies.read(request, "form") or new_secret()
        response = self._pages.page(
            "signin",
            status=status,
            token=form_token(secret),
            return_to=safe_return(return_to, ()) or _HOME,
            user=user,
            fault=fault,
            ways=self.ways,
        )
        self._cookies.keep(response, "form", secret, seconds=_FORM_S)
        return response

    async def _sign_in(self, request: web.Request) -> web.Response:
        if not self.ways.passwords:
            text = f"Sign in with {self.ways.provider}: control.password_sign_in is false."
            return self._problem("Passwords are switched off here", text, status=403)
        form = await read_form(request)
        return_to, address = str(form.get("return_to", "")), request.remote or ""
        user = str(form.get("user", "")).strip()[:_LONGEST_NAME] or FIRST
        try:
            check_token(form, self._cookies.read(request, "form"))
        except FlowRefused:
            return self.again(request, return_to)
        known = self._known.known(user, self._cookies.read(request, _KNOWN))
        source, is_known = known or address, known is not None
        async with self._guessing:
            wait = self._attempts.wait(source, user, is_known=is_known)
            if wait > 0:
                response = self._form(
                    request, return_to, fault=f"Too many guesses: try again in {int(wait) + 1} s.", status=429
                )
                response.headers["Retry-After"] = str(int(wait) + 1)
                return response
            if not await self._knows(user, Secret(str(form.get("password", "")))):
                self._attempts.failed(source, user, is_known=is_known)
                log.event("sign_in_failed", level="warning", address=address)
                fault = "That is not the password of this user, or there is no such user."
                return self._form(request, return_to, user=user, fault=fault, status=403)
        response = _redirect(safe_return(return_to, ()) or _HOME)
        await self.begin(response, user, by={"by": "password"})
        if not is_known:
            self._cookies.keep(response, _KNOWN, self._known.mark(user), seconds=_KNOWN_S)
        log.event("signed_in", address=address, by="password")
        return response

    def again(self, request: web.Request, return_to: str) -> web.Response:
        """The form anew: it lay open for over an hour, was sent twice, or cookies are off."""
        fault = "This page was too old, or cookies are off here. Try it again."
        return self._form(request, return_to, fault=fault, status=400)

    async def begin(self, response: web.Response, user: str, *, by: Mapping[str, str]) -> Secret:
        """Sign the browser in that gets this response; ``by``: what the audit tells of how."""
        session = new_secret()  # a new one each time, so none can be fixed beforehand
        expires_at = self._clock() + SESSION_S
        await self._vault.add_session(session, user, expires_at=expires_at, actor=actor_of(user), detail=by)
        self._cookies.keep(response, "session", session, seconds=SESSION_S)
        self._cookies.forget(response, "form")
        return session

    async def change(
        self,
        request: web.Request,
        response: web.Response,
        visitor: Visitor,
        *,
        current: Secret,
        new: Secret,
    ) -> tuple[str, Visitor]:
        """Set another password, which ends the user's sessions; the browser of ``response`` gets a new one.

        The first user's password ends everybody's sessions: it is the one to change when in doubt.

        Returns:
            why not (empty when it is done), and the visitor from now on.
        """
        address = request.remote or ""
        source = f"session of {visitor.user}"  # strangers do not hold up who is signed in
        async with self._guessing:
            wait = self._attempts.wait(source, visitor.user, is_known=True)
            if wait > 0:
                return f"was guessed too often: try again in {int(wait) + 1} s", visitor
            if not await self._knows(visitor.user, current):
                self._attempts.failed(source, visitor.user, is_known=True)
                log.event("password_change_refused", level="warning", address=address)
                return "is not that", visitor
            stored = await asyncio.to_thread(hashed, new)
        await self._vault.set_user_password(visitor.user, stored, actor=visitor.actor)
        log.event("password_changed", address=address)
        return "", replace(visitor, session=await self.begin(response, visitor.user, by={"by": "password"}))

    async def _knows(self, user: str, password: Secret) -> bool:
        stored = await self._vault.password_of(user)
        if stored is None:  # no such user, or none with a password: take as long as if there were one
            await asyncio.to_thread(hashed, password)
            return False
        return await asyncio.to_thread(is_right, password, stored)

    async def _sign_out(self, request: web.Request) -> web.Response:
        form, session = await read_form(request), self._cookies.read(request, "session")
        if session is None:
            return _redirect("/sign-in")
        check_token(form, session)
        response = _redirect("/sign-in" if self.ways.provider is None else "/oidc/left")
        self._cookies.forget(response, "session")
        try:
            await self._vault.end_session(session)
        except StoreError:
            log.event("sign_out_not_stored", level="warning")
        return response


def _redirect(place: str) -> web.Response:
    return web.Response(status=303, headers={"Location": place})
