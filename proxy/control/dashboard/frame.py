"""What every page of the dashboard has in common: who may see it, its navigation, what was said last."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import quote

from aiohttp import hdrs, web
from multidict import MultiMapping

from proxy import log
from proxy.connectors.outcomes import FlowRefused
from proxy.connectors.seal import SealBrokenError
from proxy.connectors.users import Role
from proxy.connectors.vault_flows import digest
from proxy.control.browsers import check_token, form_token, read_form
from proxy.control.dashboard.ground import Ground
from proxy.control.origin import WrongOriginError, elsewhere
from proxy.control.signin import SignIn, Visitor
from proxy.errors import ConfigurationError, StateError, StoreError

_BAD, _MAY_NOT, _GONE, _BUSY = 400, 403, 404, 503
_BROWSERS = 64
_NOTICES = 4
_NUMBER = 64
NAVIGATION: tuple[tuple[str, str, str], ...] = (
    ("overview", "/", "Overview"),
    ("services", "/services", "Services"),
    ("connections", "/connections", "Connections"),
    ("keys", "/keys", "Keys"),
    ("live", "/live", "Live"),
    ("audit", "/audit", "Audit"),
)
_USERS = ("users", "/users", "Users")
_FIELDS = {
    "name": "Name",
    "role": "Role",
    "email": "Mail address",
    "allow": "May call",
    "root": "Addresses without a service",
    "networks": "Networks",
    "expires": "Ends",
    "read_only": "Reading only",
    "rate": "At most",
    "concurrency": "At once",
    "--param": "Values",
    "standard input": "The token",
}
Tone = Literal["good", "bad"]
Shown = Callable[[web.Request, Visitor], Awaitable[web.StreamResponse]]
Done = Callable[[web.Request, MultiMapping[str], Visitor], Awaitable["web.StreamResponse | str"]]


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence about what was just done."""

    tone: Tone
    text: str


@dataclass(slots=True)
class Notices:
    """What each signed-in browser is to be told on its next page; few, for few browsers, in memory."""

    waiting: dict[bytes, list[Notice]] = field(default_factory=dict)

    def add(self, visitor: Visitor, tone: Tone, text: str) -> None:
        """Tell that browser."""
        browser = digest(visitor.session)
        if len(self.waiting) >= _BROWSERS and browser not in self.waiting:
            self.waiting.pop(next(iter(self.waiting)))
        told = self.waiting.setdefault(browser, [])
        told.append(Notice(tone, text))
        del told[:-_NOTICES]

    def take(self, visitor: Visitor) -> list[Notice]:
        """What it was not told yet."""
        return self.waiting.pop(digest(visitor.session), [])


class MissingPageError(Exception):
    """There is no such thing; its text says what."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Serves pages to signed-in browsers. ``shown`` and ``done`` add one page and one form of it."""

    ground: Ground
    notices: Notices = field(default_factory=Notices)

    def shown(self, app: web.Application, path: str, handler: Shown, *, least: Role = "viewer") -> None:
        """A page, for users with that role at least."""

        async def page(request: web.Request) -> web.StreamResponse:
            visitor = await self.ground.sign_in.visitor(request)
            if visitor is None:
                return SignIn.ask(request)
            return await handler(request, visitor) if visitor.may(least) else self._may_not(visitor, least)

        app.router.add_get(path, self._told(page), allow_head=False)

    def done(
        self, app: web.Application, path: str, handler: Done, *, back: str, least: Role = "operator"
    ) -> None:
        """What a form does. The handler says where to go then, or answers itself.

        ``back``: the page of the form (with the names of ``path``'s parts), where a fault is told.
        ``least``: the role that it takes.
        """

        async def act(request: web.Request) -> web.StreamResponse:
            here = back.format(**{name: quote(value, safe="") for name, value in request.match_info.items()})
            visitor = await self.ground.sign_in.visitor(request)
            if visitor is None:
                return _redirect(f"/sign-in?return_to={quote(here)}")
            form = await read_form(request)
            check_token(form, visitor.session)
            if not visitor.may(least):
                return self._may_not(visitor, least)
            try:
                place = await handler(request, form, visitor)
            except ConfigurationError as error:
                self.notices.add(visitor, "bad", sentences(error))
                place = here
            return _redirect(place) if isinstance(place, str) else place

        app.router.add_post(path, self._told(act))

    def page(
        self, template: str, /, visitor: Visitor, *, at: str, status: int = 200, **values: object
    ) -> web.Response:
        """A page within the navigation; ``at``: which entry of it the page belongs to."""
        return self.ground.pages.page(
            f"dashboard/{template}",
            status=status,
            at=at,
            navigation=(*NAVIGATION, _USERS) if visitor.may("admin") else NAVIGATION,
            notices=self.notices.take(visitor),
            token=form_token(visitor.session),
            form_number=secrets.token_hex(16),
            visitor=visitor,
            ways=self.ground.sign_in.ways,
            now=self.ground.clock(),
            **values,
        )

    def _told(
        self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Whatever stops a page is told on a page, with what to do."""

        async def page(request: web.Request) -> web.StreamResponse:
            try:
                place = elsewhere(request, self.ground.public_url)
                return await handler(request) if place is None else _redirect(place)
            except WrongOriginError as wrong:
                return self._problem(wrong.heading, str(wrong))
            except MissingPageError as missing:
                return self._problem("That is not here", str(missing), status=_GONE)
            except FlowRefused as refused:
                again = "Load the page again, and do it once more."
                return self._problem("That was no form of this browser", refused.detail, again)
            except (StoreError, StateError) as error:
                log.event("dashboard_vault_unusable", level="warning", reason=str(error))
                text = "The vault cannot be read or written for now: see the log. Nothing was changed."
                return self._problem("Not just now", text, status=_BUSY)
            except SealBrokenError as broken:
                log.event("dashboard_vault_unusable", level="warning", reason=str(broken))
                return self._problem("A secret of the vault does not open", str(broken), status=_BUSY)

        return page

    def _may_not(self, visitor: Visitor, least: Role) -> web.Response:
        text = f"{visitor.user} is a {visitor.role}; this takes the role {least}, which an admin can give."
        return self._problem("Your role does not allow that", text, status=_MAY_NOT)

    def _problem(self, heading: str, *texts: str, status: int = _BAD) -> web.Response:
        return self.ground.pages.page("problem", status=status, heading=heading, texts=texts)


def sentences(error: ConfigurationError) -> str:
    """Every fault, for a person who sees fields and not options of a command line."""
    return "; ".join(
        f"{_FIELDS.get(one.place, one.place)}: {one.message}" if one.place else one.message
        for one in error.faults
    )


def text_of(form: MultiMapping[str], name: str) -> str:
    """A field of a form, without space around it; empty when it is not there."""
    return str(form.get(name, "")).strip()


def number_of(form: MultiMapping[str]) -> str:
    """Which form was sent; those whose answer is shown once have a number."""
    return text_of(form, "number")[:_NUMBER]


def _redirect(place: str) -> web.Response:
    return web.Response(status=303, headers={hdrs.LOCATION: place})
