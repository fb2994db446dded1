"""Signing in through an identity provider: the way out, the way back, and what stopped it.

The way out is a form of the sign-in page, so no other site can begin it. The callback answers with a
redirect: neither code nor state stay in an address that a person sees, bookmarks or sends on (R103).
"""

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web

from proxy import log
from proxy.connectors.outcomes import FlowRefused
from proxy.connectors.users import Account
from proxy.connectors.vault import Vault
from proxy.control.attempts import Attempts
from proxy.control.browsers import Cookies, check_token, is_prefetch, read_form
from proxy.control.html import Pages
from proxy.control.oidc.admission import Admission
from proxy.control.oidc.attempt import LIFE_S, MAX_COOKIE, Attempt
from proxy.control.oidc.provider import IdentityProvider
from proxy.control.oidc.refusals import REASONS, SignInRefused
from proxy.control.returning import safe_return
from proxy.control.signin import SignIn
from proxy.errors import ConfigurationError, ConflictError, StateError, StoreError
from proxy.operations.users import add_user
from proxy.secret import Secret
from proxy.settings.accounts import OIDC_CALLBACK

ALL_FAILURES = 100  # a minute: nothing can be guessed here, but each one is a request to the provider
_TOLD_S, _MOST_TOLD = 600.0, 800
_COOKIE, _TOLD = "oidc", "oidc-told"
_BUSY = 503
_BACK: Mapping[str, str] = {"place": "/sign-in", "words": "To the sign-in page"}
Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class OidcPages:
    """The addresses ``/oidc/start``, ``/oidc/callback``, ``/oidc/refused/{reason}`` and ``/oidc/left``.

    Args:
        provider, admission: see there.
        vault: has the users.
        pages, cookies, sign_in: see there.
        attempts: slows those who fail; not shared with passwords, so that guessers lock nobody out here.
        clock: epoch seconds.
    """

    provider: IdentityProvider
    admission: Admission
    vault: Vault
    pages: Pages
    cookies: Cookies
    sign_in: SignIn
    attempts: Attempts
    clock: Callable[[], float]

    def add(self, app: web.Application) -> None:
        """Serve them."""
        app.router.add_post("/oidc/start", self._start)
        app.router.add_get(OIDC_CALLBACK, self._callback, allow_head=False)
        app.router.add_get("/oidc/refused/{reason}", self._refused, allow_head=False)
        app.router.add_get("/oidc/left", self._left, allow_head=False)

    @property
    def redirect_uri(self) -> str:
        """What has to be registered at the provider."""
        return f"{self.sign_in.ways.public_url}{OIDC_CALLBACK}"

    # --- the way out ------------------------------------------------------------------------------------

    async def _start(self, request: web.Request) -> web.Response:
        try:
            form = await read_form(request)
        except FlowRefused as refused:  # another site sent it
            texts = (refused.detail,)
            return self.pages.page("problem", status=400, heading="That was no form of ours", texts=texts)
        return_to = safe_return(str(form.get("return_to", "")), ()) or "/"
        attempt = Attempt.begin(return_to, self.clock())
        try:
            check_token(form, self.cookies.read(request, "form"))
            address = await self.provider.departure(attempt)
        except FlowRefused:
            return self.sign_in.again(request, return_to)
        except SignInRefused as refused:
            self._note(refused, request)
            return self._sorry(refused)
        title = self.sign_in.ways.provider or ""
        response = self.pages.page(
            "leaving", address=address, title=title
        )  # as a redirect, no form may do it
        self.cookies.keep(response, _COOKIE, attempt.kept, seconds=LIFE_S)
        return response

    # --- the way back -----------------------------------------------------------------------------------

    async def _callback(self, request: web.Request) -> web.Response:
        if is_prefetch(request):
            return web.Response(status=_BUSY)
        try:
            attempt = self._attempt(request)
        except SignInRefused as refused:  # whatever attempt this browser has goes on
            self._note(refused, request)
            return self._send_to_refusal(refused)
        try:
            response = await self._arrived(request, attempt)
        except SignInRefused as refused:
            self._note(refused, request)
            if REASONS[refused.reason].counts:
                self.attempts.failed(request.remote or "")
            response = self._send_to_refusal(refused)
        except (StoreError, StateError) as error:
            unsaved = SignInRefused("not_stored", why=str(error))
            self._note(unsaved, request)
            response = self._send_to_refusal(unsaved)
        self.cookies.forget(response, _COOKIE)
        return response

    def _attempt(self, request: web.Request) -> Attempt:
        """The attempt that an answer belongs to, of this very browser."""
        kept = self.cookies.read(request, _COOKIE, most=MAX_COOKIE)
        attempt = Attempt.read(kept, self.clock())
        states = request.query.getall("state", [])
        if attempt is None or len(states) != 1 or not attempt.is_state(states[0]):
            raise SignInRefused("attempt_unknown")
        return attempt

    async def _arrived(self, request: web.Request, attempt: Attempt) -> web.Response:
        if self.attempts.wait(request.remote or "") > 0:
            raise SignInRefused("too_many")
        account, claims = await self.provider.identify(list(request.query.items()), attempt)
        user = await self._user(account, claims)
        response = _redirect(safe_return(attempt.return_to, ()) or "/")
        by = {"by": "oidc", "issuer": account.issuer, "subject": account.subject}
        await self.sign_in.begin(response, user, by=by)
        log.event("signed_in", address=request.remote or "", by="oidc")
        return response

    async def _user(self, account: Account, claims: Mapping[str, Any]) -> str:
        """The name of the user that the claims speak of."""
        address = self.admission.address_of(claims)
        try:
            found = await self.vault.recognise(address, account)
            if found is None and self.admission.provision:
                await self._provide(address)
                found = await self.vault.recognise(address, account)
        except ConflictError:
            raise SignInRefused("other_account", f"The address is {address}.") from None
        if found is None:
            raise SignInRefused("unknown_user", f"The address is {address}.")
        return found

    async def _provide(self, address: str) -> None:
        """A new viewer, named by their address; an address that can be no name is left to the admins."""
        try:
            await add_user(
                self.vault, address, "viewer", email=address, with_password=False, actor="identity provider"
            )
        except ConflictError:
            return  # another instance was first, or somebody else has this name
        except ConfigurationError:
            raise SignInRefused("unknown_user", f"The address is {address}.") from None

    async def _left(self, _: web.Request) -> web.Response:
        """Where signing out ends: the provider's own session goes on until a person ends that too."""
        name, place = self.sign_in.ways.provider, await self.provider.leaving()
        texts = ["You are signed out of this control plane."]
        if place is None:
            onward: Mapping[str, str] = _BACK
        else:
            texts.append(f"If you signed in with {name}, you are still signed in there.")
            onward = {"place": place, "words": f"Sign out of {name} too"}
        return self.pages.page("problem", heading="Signed out", tone="", texts=texts, onward=onward)

    # --- what stopped it --------------------------------------------------------------------------------

    def _note(self, refused: SignInRefused, request: web.Request) -> None:
        log.event(
            "oidc_sign_in_refused",
            level="warning",
            reason=refused.reason,
            why=refused.why or None,
            address=request.remote or "",
        )

    def _send_to_refusal(self, refused: SignInRefused) -> web.Response:
        """To a page of its own; what it tells besides the reason goes by a cookie, never by the address."""
        response = _redirect(f"/oidc/refused/{refused.reason}")
        told = base64.urlsafe_b64encode(f"{refused.reason} {refused.detail}".encode()).decode()
        if refused.detail and len(told) <= _MOST_TOLD:
            self.cookies.keep(response, _TOLD, Secret(told), seconds=_TOLD_S)
        else:
            self.cookies.forget(response, _TOLD)
        return response

    async def _refused(self, request: web.Request) -> web.Response:
        reason = request.match_info["reason"]
        if reason not in REASONS:
            raise web.HTTPNotFound
        kept = self.cookies.read(request, _TOLD, most=_MOST_TOLD)
        try:
            text = base64.urlsafe_b64decode(kept.reveal()).decode() if kept is not None else ""
        except (ValueError, binascii.Error):
            text = ""
        of, _, detail = text.partition(" ")
        return self._sorry(SignInRefused(reason, detail if of == reason else ""))

    def _sorry(self, refused: SignInRefused) -> web.Response:
        reason = REASONS[refused.reason]
        texts = [text for text in (refused.detail, reason.remedy) if text]
        return self.pages.page(
            "problem", status=reason.status, heading=reason.title, texts=texts, onward=_BACK
        )


def _redirect(place: str) -> web.Response:
    return web.Response(status=303, headers={hdrs.LOCATION: place})
