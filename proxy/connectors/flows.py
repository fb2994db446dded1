"""Connecting an account by OAuth: from a link that is good once to the callback's code. No HTTP here.

A flow is a row of the vault, so any process may take any step. The order is fixed: :meth:`Flows.begin`
makes a link (R98), :meth:`Flows.open` binds the browser that opens it (R97), :meth:`Flows.depart` makes state
and verifier and gives the provider's address (R94, R95), :meth:`Flows.arrive` takes what came back (R96, R99,
R102), and :meth:`Flows.settle` notes the outcome, which :meth:`Flows.progress` tells to whoever waits.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from proxy.catalog.model import Catalog, Service
from proxy.catalog.params import check_config
from proxy.catalog.reader import nearest
from proxy.connectors.checked import check_name
from proxy.connectors.flow import (
    Arrived,
    Begun,
    Flow,
    Wish,
    check_answer,
    check_issuer,
    check_public_url,
    check_scopes,
    completed,
    new_code,
    oauth_of,
    redirect_address,
    remembered,
)
from proxy.connectors.live import Clock
from proxy.connectors.oauth.messages import authorization_address, new_verifier
from proxy.connectors.oauth.registration import Registration, Registrations
from proxy.connectors.outcomes import FlowRefused, Outcome
from proxy.connectors.vault import Vault
from proxy.connectors.vault_flows import FlowRow, Stage, new_secret
from proxy.errors import ConfigurationError, Fault, RequestError
from proxy.secret import Secret

LIFE_S = 600.0
_EXCHANGE_S = 60.0  # longer than a token exchange and what follows may take


class Flows:
    """See the module. ``public_url``: origin of the control plane as browsers reach it."""

    def __init__(
        self,
        vault: Vault,
        catalog: Callable[[], Catalog],
        registrations: Registrations,
        *,
        public_url: str,
        clock: Clock,
    ) -> None:
        self.public_url = public_url
        self._vault = vault
        self._catalog = catalog
        self._registrations = registrations
        self._clock = clock

    async def registration_for(self, service: Service, registration_id: str | None = None) -> Registration:
        """The app that a service is connected with.

        Raises:
            ConfigurationError: no OAuth data, an address that the provider refuses, or no app registered:
                with everything that a person needs to register one.
        """
        oauth = oauth_of(service)
        check_public_url(service, self.public_url)
        found = await self._registrations.find(service, registration_id)
        if found is not None:
            return found
        wanted = registration_id or oauth.family
        known = [one.registration_id for one in await self._registrations.all()]
        hint = nearest(wanted, known) if registration_id else ""
        where = service.console or service.docs
        family = "" if wanted in {oauth.family, service.type_id} else f" --family {oauth.family}"
        raise ConfigurationError(
            Fault(
                f"registrations.{wanted}",
                f"no app is registered for {service.title}{hint}. Register one at {where} with the redirect "
                f"address {redirect_address(self.public_url, wanted)} and store it: connector-proxy "
                f"registrations set {wanted} --client-id ID --client-secret-stdin{family} < secret-file"
                f". Or connect with a token: connector-proxy connect {service.type_id} "
                "--access-token-stdin < token-file",
            )
        )

    async def begin(self, wish: Wish, *, actor: str) -> Begun:
        """Make the link for one attempt. Of a connection that is there, what ``wish`` leaves out is kept.

        Raises:
            ConfigurationError: what has to be put right first; nothing was stored.
            StoreError: nothing was stored.
        """
        service = self._service(wish.service)
        check_name(wish.name)
        held = self._vault.snapshot.find(wish.service, wish.name)
        wish = completed(wish, service, None if held is None else held.connection)
        registration = await self.registration_for(service, wish.registration)
        check_config(service, wish.params, before_connecting=True)
        oauth = oauth_of(service)
        confirmed = wish.scopes is not None or not oauth.scopes or oauth.scopes_verified != "memory"
        row = {
            "flow_id": secrets.token_hex(12),
            "service": wish.service,
            "name": wish.name,
            "registration": registration.registration_id,
        }
        begun = Begun(row["flow_id"], new_secret(), new_code(), self._clock() + LIFE_S)
        sealed = {
            "code": begun.code,
            "scopes": list(check_scopes(oauth.scopes if wish.scopes is None else wish.scopes)),
            "confirmed": confirmed,
            "params": dict(wish.params),
            "return_to": wish.return_to,
            "actor": actor,
        }
        await self._vault.add_flow(row, sealed, link=begun.link, expires_at=begun.expires_at)
        return begun

    async def open(self, service: str, link: Secret) -> tuple[Flow, Secret]:
        """Take a link: the flow, and the secret that its browser keeps from now on.

        Raises:
            FlowRefused: the link is unknown, of another service, opened before, or too old.
        """
        row = await self._vault.flow_of_link(link)
        if row is None or row.service != service:
            raise FlowRefused("link_unknown", service=service)
        browser = new_secret()
        if not await self._vault.open_flow(row.flow_id, browser):
            late = row.stage == "begun" and row.expires_at <= self._clock()
            raise FlowRefused("expired" if late else "link_used", service=service)
        return await self.held(row.flow_id, browser), browser

    async def held(self, flow_id: str, browser: Secret | None) -> Flow:
        """A flow that is still under way, for the browser that opened it.

        Raises:
            FlowRefused: there is none, it is another browser's, it has ended or expired.
        """
        row = await self._vault.flow(flow_id)
        if row is None:
            raise FlowRefused("link_unknown")
        if not row.is_held_by(browser):
            raise FlowRefused("other_browser", service=row.service)
        if row.sealed is None or row.expires_at <= self._clock():
            raise FlowRefused("expired", service=row.service)
        return self._flow(row, row.sealed)

    async def depart(
        self,
        flow_id: str,
        browser: Secret,
        *,
        scopes: Sequence[str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> str:
        """The provider's address, with a fresh state and verifier; earlier ones are worth nothing then.

        Args:
            flow_id: the flow.
            browser: what :meth:`open` gave.
            scopes: chosen on the page; None: those that the flow has.
            params: further values that a person gave.

        Raises:
            FlowRefused: as :meth:`held`.
            ConfigurationError: scopes or values that cannot be, or scopes that nobody has confirmed.
        """
        flow = await self.held(flow_id, browser)
        if scopes is not None:
            flow = replace(flow, scopes=check_scopes(scopes), confirmed=True)
        if not flow.confirmed:
            raise ConfigurationError(
                Fault("--scope", "the scopes are known from memory only: check them and say them")
            )
        flow = replace(flow, params={**flow.params, **(params or {})})
        config, metadata = check_config(flow.service, flow.params, before_connecting=True)
        registration = await self.registration_for(flow.service, flow.row.registration)
        state, verifier = new_secret(), new_verifier()
        redirect_uri = redirect_address(self.public_url, registration.registration_id)
        try:
            address = authorization_address(
                flow.service,
                registration,
                redirect_uri=redirect_uri,
                state=state,
                verifier=verifier,
                scopes=flow.scopes,
                config={**metadata, **(config or {})},
            )
        except RequestError as error:
            raise ConfigurationError(Fault("--param", error.detail)) from None
        sealed = {
            **remembered(flow),
            "redirect_uri": redirect_uri,
            "verifier": verifier.reveal(),
        }
        if not await self._vault.send_flow_away(flow.row, sealed, state):
            raise FlowRefused("expired", service=flow.service.type_id)
        return address

    async def arrive(
        self,
        registration_id: str,
        query: Sequence[tuple[str, str]],
        browser_of: Callable[[str], Secret | None],
    ) -> Arrived:
        """Take what a provider sent a browser back with. The state is spent, whatever is found wrong then.

        Args:
            registration_id: of the path that was called.
            query: the redirect's parameters, in order.
            browser_of: what the browser keeps for a flow of that id, or None.

        Raises:
            FlowRefused: with ``flow_id`` when a flow ended by it.
        """
        states = [value for name, value in query if name == "state"]
        row = await self._vault.take_flow_back(Secret(states[0])) if len(states) == 1 and states[0] else None
        if row is None or row.sealed is None:
            raise FlowRefused("state_unknown")
        try:
            return await self._arrived(row, row.sealed, registration_id, query, browser_of)
        except FlowRefused as refused:
            refused.flow_id, refused.service = row.flow_id, row.service
            outcome = Outcome(
                row.service,
                row.name,
                refused.reason,
                refused.detail,
                return_to=row.sealed["return_to"] or "",
            )
            await self.settle(row.flow_id, outcome)
            raise

    async def _arrived(
        self,
        row: FlowRow,
        sealed: Mapping[str, Any],
        registration_id: str,
        query: Sequence[tuple[str, str]],
        browser_of: Callable[[str], Secret | None],
    ) -> Arrived:
        if not row.is_held_by(browser_of(row.flow_id)):
            raise FlowRefused("other_browser")
        if row.expires_at <= self._clock():
            raise FlowRefused("expired")
        if registration_id != row.registration:
            raise FlowRefused("wrong_path")
        flow = self._flow(row, sealed)
        values = dict(query)
        check_issuer(oauth_of(flow.service), values)
        check_answer(query)
        code = values.get("code")
        if not code and oauth_of(flow.service).grant == "authorization_code":
            raise FlowRefused("malformed_answer")
        registration = await self._registrations.find(flow.service, row.registration)
        if registration is None:
            raise FlowRefused("registration_refused", "The registration was removed meanwhile.")
        rest = {name: value for name, value in values.items() if name not in {"code", "state"}}
        return Arrived(flow, registration, Secret(code) if code else None, rest)

    async def settle(self, flow_id: str, outcome: Outcome) -> None:
        """Note what a flow came to; the first outcome counts.

        Raises:
            StoreError: it could not be noted.
        """
        await self._vault.end_flow(flow_id, outcome.as_json(), done=outcome.ok)

    async def progress(self, flow_id: str) -> tuple[Stage, Outcome | None]:
        """How far a flow is, for whoever waits for it; one that has run out counts as ended.

        Raises:
            FlowRefused: there is no such flow.
            StoreError: it cannot be read.
        """
        row = await self._vault.flow(flow_id)
        if row is None:
            raise FlowRefused("link_unknown")
        if row.outcome is not None:
            return row.stage, Outcome.from_json(row.outcome)
        if row.expires_at + (0 if row.stage != "back" else _EXCHANGE_S) <= self._clock():
            return "failed", Outcome(row.service, row.name, "expired")
        return row.stage, None

    async def ended(self, flow_id: str, browser: Secret | None) -> Outcome | None:
        """The outcome of a flow for its own browser; None while it is under way.

        Raises:
            FlowRefused: there is none, or it is another browser's.
        """
        row = await self._vault.flow(flow_id)
        if row is None or not row.is_held_by(browser):
            raise FlowRefused("other_browser")
        return (await self.progress(flow_id))[1]

    def _service(self, type_id: str) -> Service:
        catalog = self._catalog()
        service = catalog.get(type_id)
        if service is None:
            raise ConfigurationError(
                Fault(type_id[:60], f"there is no such service{nearest(type_id, catalog.services)}")
            )
        return service

    def _flow(self, row: FlowRow, sealed: Mapping[str, Any]) -> Flow:
        service = self._catalog().get(row.service)
        if service is None or service.oauth is None:
            raise FlowRefused("expired", "The service is no longer in force.", service=row.service)
        verifier = sealed.get("verifier")
        return Flow(
            row,
            service,
            code=sealed["code"],
            scopes=tuple(sealed["scopes"]),
            confirmed=sealed["confirmed"],
            params=sealed["params"],
            return_to=sealed["return_to"],
            actor=sealed["actor"],
            redirect_uri=sealed.get("redirect_uri", ""),
            verifier=None if verifier is None else Secret(verifier),
        )
