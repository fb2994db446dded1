"""Connecting an account in a browser: the page that a link opens, the way to the provider, and back.

No page loads anything but our style sheet, and none is kept (R103); the callback answers with a redirect, so
that the code stands in no address that a person sees, bookmarks or sends on.
"""

import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace

from aiohttp import hdrs, web
from multidict import MultiMapping

from proxy import log
from proxy.catalog.model import Catalog, Service
from proxy.connecting import Connecting
from proxy.connectors.flow import Flow, Wish
from proxy.connectors.flows import LIFE_S
from proxy.connectors.oauth.messages import needs_browser
from proxy.connectors.outcomes import REASONS, FlowRefused, Outcome
from proxy.connectors.seal import SealBrokenError
from proxy.connectors.sources import SOLE_CONNECTION
from proxy.connectors.vault import Vault
from proxy.control.browsers import Cookies, check_token, form_token, is_prefetch, read_form
from proxy.control.connect_form import connect_form
from proxy.control.html import Pages
from proxy.control.origin import WrongOriginError, elsewhere
from proxy.control.returning import safe_return
from proxy.control.signin import SignIn, Visitor
from proxy.errors import ConfigurationError, StateError, StoreError
from proxy.secret import Secret

_FLOW_ID = re.compile(r"[0-9a-f]{24}", re.ASCII)
_KEPT_S = LIFE_S + 3600.0  # the browser may look at the result for a while
_GONE, _BAD, _MAY_NOT, _BUSY = 410, 400, 403, 503
Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class ConnectPages:
    """The pages ``/connect``, ``/connect/{service}``, ``/callback/{registration}`` and ``/result/{flow}``.

    Args:
        connecting: takes flows to their end.
        catalog: the services in force now.
        vault: has the connections that are shown.
        pages, cookies: see there.
        sign_in: None where the pages are only for a link that a terminal made.
        origins: where a browser may be sent back to besides our own paths.
    """

    connecting: Connecting
    catalog: Callable[[], Catalog]
    vault: Vault
    pages: Pages
    cookies: Cookies
    sign_in: SignIn | None = None
    origins: Collection[str] = ()

    def add(self, app: web.Application) -> None:
        """Serve the pages."""
        add = app.router.add_get
        add("/connect", self._told(self._services), allow_head=False)
        add("/connect/{service}", self._told(self._show), allow_head=False)
        app.router.add_post("/connect/{service}", self._told(self._go_on))
        add("/callback/{registration}", self._told(self._callback), allow_head=False)
        add("/result/{flow}", self._told(self._result), allow_head=False)
        add("/refused/{reason}", self._told(self._refused), allow_head=False)

    # --- what all pages have in common ------------------------------------------------------------------

    def _told(self, handler: Handler) -> Handler:
        """Whatever stops a page is told on a page, with what to do."""

        async def page(request: web.Request) -> web.Response:
            try:
                return self._elsewhere(request) or await handler(request)
            except FlowRefused as refused:
                return self._refusal(refused)
            except ConfigurationError as error:
                return self._problem("Something has to be set up first", *(str(one) for one in error.faults))
            except (StoreError, StateError):
                text = "The vault cannot be read or written for now: see the log. Nothing was stored."
                return self._problem("Not just now", text, status=_BUSY)
            except SealBrokenError as broken:
                return self._problem("A secret of the vault does not open", str(broken), status=_BUSY)

        return page

    def _problem(self, heading: str, *texts: str, status: int = _BAD) -> web.Response:
        return self.pages.page("problem", status=status, heading=heading, texts=texts)

    def _refusal(self, refused: FlowRefused) -> web.Response:
        outcome = Outcome(refused.service or "SERVICE", "", refused.reason, refused.detail)
        texts = [text for text in (outcome.detail, outcome.remedy) if text]
        status = _GONE if refused.reason in {"link_used", "expired"} else _BAD
        return self._problem(outcome.title, *texts, status=status)

    def _elsewhere(self, request: web.Request) -> web.Response | None:
        """To the one origin that redirect addresses name: cookies of another one would be missing there."""
        try:
            place = elsewhere(request, self.connecting.flows.public_url)
        except WrongOriginError as wrong:
            return self._problem(wrong.heading, str(wrong))
        return None if place is None else _redirect(place)

    # --- the way out ------------------------------------------------------------------------------------

    async def _services(self, request: web.Request) -> web.Response:
        visitor = await self._visitor(request)
        if visitor is None:
            return SignIn.ask(request) if self.sign_in is not None else self._only_links()
        held = self.vault.connections()
        services = sorted(
            (one for one in self.catalog().services.values() if one.oauth is not None),
            key=lambda one: one.title.lower(),
        )
        return self.pages.page(
            "services",
            services=[(one, [c for c in held if c.service == one.type_id]) for one in services],
            token=form_token(visitor.session),
        )

    async def _visitor(self, request: web.Request) -> Visitor | None:
        return None if self.sign_in is None else await self.sign_in.visitor(request)

    def _may_not(self, visitor: Visitor) -> web.Response:
        text = f"{visitor.user} is a {visitor.role}; connecting accounts takes the role operator."
        return self._problem("Your role does not allow that", text, status=_MAY_NOT)

    def _only_links(self) -> web.Response:
        text = "This page is only for the link that your terminal shows: open that one."
        return self._problem("Open the link of your terminal", text)

    async def _show(self, request: web.Request) -> web.Response:
        service = request.match_info["service"]
        if "link" in request.query:
            return await self._open(request, service, Secret(request.query["link"]))
        if "flow" in request.query:
            flow, browser = await self._held(request, request.query["flow"])
            return connect_form(self.pages, flow.service, browser, flow=flow)
        visitor = await self._visitor(request)
        if visitor is None:
            return SignIn.ask(request) if self.sign_in is not None else self._only_links()
        if not visitor.may("operator"):
            return self._may_not(visitor)
        return await self._new(request.query, self._service(service), visitor.session)

    async def _open(self, request: web.Request, service: str, link: Secret) -> web.Response:
        """A link is spent by being opened; from then on the address does not hold it."""
        if is_prefetch(request):
            return web.Response(status=_BUSY)
        flow, browser = await self.connecting.flows.open(service, link)
        response = _redirect(f"/connect/{flow.service.type_id}?flow={flow.flow_id}")
        self.cookies.keep(response, _purpose(flow.flow_id), browser, seconds=_KEPT_S)
        return response

    async def _held(self, request: web.Request, flow_id: str) -> tuple[Flow, Secret]:
        browser = self._browser(request)(flow_id)
        flow = await self.connecting.flows.held(flow_id, browser)
        if browser is None:
            raise FlowRefused("other_browser")
        return flow, browser

    def _browser(self, request: web.Request) -> Callable[[str], Secret | None]:
        """What this browser keeps for a flow."""

        def keeps(flow_id: str) -> Secret | None:
            if _FLOW_ID.fullmatch(flow_id) is None:
                return None
            return self.cookies.read(request, _purpose(flow_id))

        return keeps

    def _service(self, type_id: str) -> Service:
        found = self.catalog().get(type_id)
        if found is None:
            raise web.HTTPNotFound
        return found

    async def _new(self, given: MultiMapping[str], service: Service, session: Secret) -> web.Response:
        """The page of a signed-in operator, who says there what a command line would."""
        await self.connecting.flows.registration_for(service)
        name = given.get("connection", SOLE_CONNECTION)
        held = self.vault.snapshot.find(service.type_id, name)
        known = {} if held is None else {**held.connection.metadata, **(held.connection.config or {})}
        return connect_form(
            self.pages,
            service,
            session,
            name=name,
            params=known,
            return_to=safe_return(given.get("return_to"), self.origins),
        )

    async def _go_on(self, request: web.Request) -> web.Response:
        form = await read_form(request)
        scopes = tuple(str(form["scopes"]).split()) if "scopes" in form and "confirmed" in form else None
        if form.get("flow"):
            flow_id = str(form["flow"])
            browser = check_token(form, self._browser(request)(flow_id))
            flow = await self.connecting.flows.held(flow_id, browser)
            if flow.confirmed:
                scopes = None  # whoever holds a link asks for what its maker said, neither less nor more
            try:
                address = await self.connecting.flows.depart(flow_id, browser, scopes=scopes)
            except ConfigurationError as error:
                return connect_form(
                    self.pages, flow.service, browser, flow=flow, fault=_sentences(error), status=_BAD
                )
            return self.pages.page("leaving", address=address, title=flow.service.title)
        visitor = await self._visitor(request)
        check_token(form, None if visitor is None else visitor.session)
        if visitor is None or not visitor.may("operator"):
            return SignIn.ask(request) if visitor is None else self._may_not(visitor)
        return await self._begin(form, self._service(request.match_info["service"]), visitor, scopes)

    async def _begin(
        self, form: MultiMapping[str], service: Service, visitor: Visitor, scopes: tuple[str, ...] | None
    ) -> web.Response:
        """A flow of a signed-in operator: begun, opened and left in one step."""
        params = {
            name.removeprefix("param."): str(value).strip()
            for name, value in form.items()
            if name.startswith("param.") and str(value).strip()
        }
        name = str(form.get("name", "")).strip()
        return_to = safe_return(str(form.get("return_to", "")), self.origins)
        wish = Wish(service.type_id, name, params, scopes, return_to=return_to)
        flows = self.connecting.flows
        try:
            if not needs_browser(service):
                return await self._mint(wish, service, actor=visitor.actor)
            begun = await flows.begin(wish, actor=visitor.actor)
            flow, browser = await flows.open(service.type_id, begun.link)
            address = await flows.depart(flow.flow_id, browser)
        except ConfigurationError as error:
            return connect_form(
                self.pages,
                service,
                visitor.session,
                fault=_sentences(error),
                name=name,
                params=params,
                scopes=scopes,
                return_to=return_to,
                status=_BAD,
            )
        response = self.pages.page("leaving", address=address, title=service.title)
        self.cookies.keep(response, _purpose(flow.flow_id), browser, seconds=_KEPT_S)
        return response

    async def _mint(self, wish: Wish, service: Service, *, actor: str) -> web.Response:
        registration = await self.connecting.flows.registration_for(service, wish.registration)
        outcome = await self.connecting.mint(service, wish.name, registration, wish.params, actor=actor)
        _log(outcome)
        return self._outcome(replace(outcome, return_to=wish.return_to or ""))

    # --- the way back -----------------------------------------------------------------------------------

    async def _callback(self, request: web.Request) -> web.Response:
        if is_prefetch(request):
            return web.Response(status=_BUSY)
        try:
            arrived, outcome = await self.connecting.finish(
                request.match_info["registration"], list(request.query.items()), self._browser(request)
            )
        except FlowRefused as refused:
            log.event("connect_refused", level="warning", reason=refused.reason, service=refused.service)
            if refused.flow_id is not None and refused.reason != "other_browser":
                return _redirect(f"/result/{refused.flow_id}")
            return _redirect(f"/refused/{refused.reason}")
        _log(outcome)
        flow = arrived.flow
        if outcome.ok and flow.return_to is not None:
            return _redirect(flow.return_to)
        return _redirect(f"/result/{flow.flow_id}")

    async def _result(self, request: web.Request) -> web.Response:
        flow_id = request.match_info["flow"]
        outcome = await self.connecting.flows.ended(flow_id, self._browser(request)(flow_id))
        return self._outcome(outcome)

    def _outcome(self, outcome: Outcome | None) -> web.Response:
        service = None if outcome is None else self.catalog().get(outcome.service)
        title = service.title if service is not None else "The service"
        status = 200 if outcome is None or outcome.ok else _BAD
        return self.pages.page("result", status=status, outcome=outcome, title=title)

    async def _refused(self, request: web.Request) -> web.Response:
        """Where a callback of no known flow ends: nothing of it is in the address."""
        reason = request.match_info["reason"]
        if reason not in REASONS:
            raise web.HTTPNotFound
        return self._refusal(FlowRefused(reason))


def _purpose(flow_id: str) -> str:
    return f"connect-{flow_id}"


def _redirect(place: str) -> web.Response:
    return web.Response(status=303, headers={hdrs.LOCATION: place})


def _sentences(error: ConfigurationError) -> str:
    return "; ".join(str(fault) for fault in error.faults)


def _log(outcome: Outcome) -> None:
    log.event(
        "connected" if outcome.ok else "connect_failed",
        level="info" if outcome.ok else "warning",
        service=outcome.service,
        connection=outcome.name,
        reason=outcome.reason or None,
    )
