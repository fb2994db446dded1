"""The end of a flow: a code becomes tokens, they are tried once, and then stored; or nothing is."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from proxy.assembly.providers import token_endpoint
from proxy.catalog.model import Catalog, Service
from proxy.catalog.params import check_config
from proxy.connectors.flow import Arrived, oauth_of
from proxy.connectors.flows import Flows
from proxy.connectors.model import Connection, Credential
from proxy.connectors.oauth.answers import Grant
from proxy.connectors.oauth.endpoint import TokenEndpoint
from proxy.connectors.oauth.faults import ApplicationFault, GrantDead, NotSent, ProviderBusy, TokenFault
from proxy.connectors.oauth.messages import exchange_request, from_callback, mint_request
from proxy.connectors.oauth.registration import Registration, Registrations
from proxy.connectors.outcomes import FlowRefused, Outcome
from proxy.connectors.vault import Vault
from proxy.errors import ConfigurationError, RequestError, StateError, StoreError
from proxy.forwarding.egress import Dialer
from proxy.secret import Secret
from proxy.settings import Settings
from proxy.verify import Verdict, verify_new

Check = Callable[[Service, Credential], Awaitable[Verdict]]
_UNAUTHORIZED = 401
_FAULTS: tuple[tuple[type[TokenFault], str], ...] = (
    (GrantDead, "code_refused"),
    (ApplicationFault, "registration_refused"),
    (ProviderBusy, "provider_busy"),
    (NotSent, "provider_unreachable"),
    (TokenFault, "provider_unreadable"),
)


def connecting_of(
    settings: Settings,
    catalog: Callable[[], Catalog],
    vault: Vault,
    registrations: Registrations,
    dialer: Dialer,
    *,
    public_url: str,
) -> "Connecting":
    """As the settings have it. ``public_url``: origin of the control plane as browsers reach it."""
    flows = Flows(vault, catalog, registrations, public_url=public_url, clock=time.time)

    async def check(service: Service, credential: Credential) -> Verdict:
        return await verify_new(settings, dialer, service, credential)

    return Connecting(flows, vault, token_endpoint(dialer), check)


class Connecting:
    """Takes flows to their end.

    Args:
        flows: see Flows.
        vault: where tokens are stored.
        endpoint: asks providers for tokens.
        check: one call with a credential that is not stored yet (``proxy.verify``).
    """

    def __init__(self, flows: Flows, vault: Vault, endpoint: TokenEndpoint, check: Check) -> None:
        self.flows = flows
        self._vault = vault
        self._endpoint = endpoint
        self._check = check

    async def finish(
        self,
        registration_id: str,
        query: Sequence[tuple[str, str]],
        browser_of: Callable[[str], Secret | None],
    ) -> tuple[Arrived, Outcome]:
        """Take a callback to its end; the outcome is noted for whoever waits.

        Raises:
            FlowRefused: it was not one to take.
        """
        arrived = await self.flows.arrive(registration_id, query, browser_of)
        flow = arrived.flow
        try:
            outcome = await self._connect(
                flow.service,
                flow.row.name,
                arrived.registration,
                asked=flow.scopes,
                given={**flow.params, **from_callback(flow.service, arrived.values)},
                actor=flow.actor,
                arrived=arrived,
            )
        except BaseException:
            await self.flows.settle(flow.flow_id, Outcome(flow.row.service, flow.row.name, "not_stored"))
            raise
        outcome = replace(outcome, return_to=flow.return_to or "")
        if not outcome.ok:
            await self._audit_failure(flow.actor, outcome)
        await self.flows.settle(flow.flow_id, outcome)
        return arrived, outcome

    async def mint(
        self, service: Service, name: str, registration: Registration, given: Mapping[str, str], *, actor: str
    ) -> Outcome:
        """Connect a service that gives tokens to the app itself, without anybody's consent."""
        return await self._connect(
            service, name, registration, asked=oauth_of(service).scopes, given=given, actor=actor
        )

    async def _connect(
        self,
        service: Service,
        name: str,
        registration: Registration,
        *,
        asked: tuple[str, ...],
        given: Mapping[str, str],
        actor: str,
        arrived: Arrived | None = None,
    ) -> Outcome:
        """Ask for tokens, try them, store them. What was there stays until the last step (R108)."""
        try:
            grant = await self._ask(service, registration, asked, given, arrived)
            values = {**given, **grant.config, **grant.metadata}
            verdict = await self._try(service, name, grant, values)
            held = self._vault.snapshot.find(service.type_id, name)
            before = None if held is None else held.connection
            _keep_what_works(before, verdict)
            told = _told_by_call(service, verdict)
            # The answer's id first: answers to refreshes tell that one, and are compared with it (R128).
            account_id = grant.account_id or (None if verdict is None else verdict.account_id)
            saved = await self._vault.save_connection(
                service.type_id,
                name,
                grant.tokens,
                config={**values, **told},
                metadata={} if account_id is None else {"account_id": account_id},
                account=(verdict.account if verdict is not None else None) or grant.account,
                scopes=asked if grant.scopes is None else grant.scopes,
                asked_scopes=asked,
                registration=registration.registration_id,
                actor=actor,
            )
        except FlowRefused as refused:
            return Outcome(service.type_id, name, refused.reason, refused.detail)
        except ConfigurationError as error:
            return Outcome(service.type_id, name, "values_missing", _sentences(error))
        except (StoreError, StateError):
            return Outcome(service.type_id, name, "not_stored")
        return _success(service, saved, before, verdict)

    async def _ask(
        self,
        service: Service,
        registration: Registration,
        asked: tuple[str, ...],
        given: Mapping[str, str],
        arrived: Arrived | None,
    ) -> Grant:
        """Raises FlowRefused when no grant comes of it."""
        config, metadata = check_config(service, given, before_connecting=True)
        known = {**metadata, **(config or {})}
        try:
            if arrived is not None and arrived.code is not None and arrived.flow.verifier is not None:
                outgoing = exchange_request(
                    service,
                    registration,
                    code=arrived.code,
                    redirect_uri=arrived.flow.redirect_uri,
                    verifier=arrived.flow.verifier,
                    config=known,
                    scopes=asked,
                )
            else:
                outgoing = mint_request(service, registration, config=known, metadata={}, scopes=asked)
            return await self._endpoint.ask(service, outgoing)
        except TokenFault as fault:
            reason = next(reason for kind, reason in _FAULTS if isinstance(fault, kind))
            raise FlowRefused(reason, f"{fault.detail}.") from None
        except RequestError as error:
            raise FlowRefused("values_missing", f"{error.detail}.") from None

    async def _try(
        self, service: Service, name: str, grant: Grant, values: Mapping[str, str]
    ) -> Verdict | None:
        """What the service says of the new token; None where its file has no call for that."""
        config, _ = check_config(service, values)
        if service.verify is None:
            return None
        credential = Credential(
            service.type_id, "", name, grant.tokens.access_token, config, expires_at=grant.tokens.expires_at
        )
        return await self._check(service, credential)

    async def _audit_failure(self, actor: str, outcome: Outcome) -> None:
        try:
            await self._vault.record(
                actor,
                "connection.connect_failed",
                f"{outcome.service}@{outcome.name}",
                {"reason": outcome.reason},
            )
        except StoreError:
            return  # the outcome says it to the person all the same


def _keep_what_works(before: Connection | None, verdict: Verdict | None) -> None:
    """A token that the service refuses must not take the place of one in use (R108)."""
    if before is None or before.state != "active" or verdict is None:
        return
    if not verdict.ok and verdict.status == _UNAUTHORIZED:
        raise FlowRefused("token_refused", f"{verdict.reason}.")


def _told_by_call(service: Service, verdict: Verdict | None) -> Mapping[str, str]:
    """Values that the service's file wants from the verify call."""
    if verdict is None or verdict.account_id is None:
        return {}
    return {param.name: verdict.account_id for param in service.params.values() if param.source == "call"}


def _success(
    service: Service, saved: Connection, before: Connection | None, verdict: Verdict | None
) -> Outcome:
    notes: list[str] = []
    if verdict is not None and not verdict.ok:
        notes.append(f"The call that names the account did not go well: {verdict.reason}.")
    oauth = oauth_of(service)
    if oauth.refresh == "none":
        notes.append(f"{service.title} gives no refresh token: when this token ends, connect again.")
    return Outcome(
        service.type_id,
        saved.name,
        account=saved.account,
        previous_account=_other_account(before, saved),
        asked=saved.asked_scopes,
        granted=saved.scopes,
        missing=missing_scopes(saved.asked_scopes, saved.scopes),
        notes=tuple(notes),
        is_default=saved.is_default,
    )


def _other_account(before: Connection | None, saved: Connection) -> str | None:
    """Whose tokens were there, when it was somebody else (R108)."""
    if before is None:
        return None
    old, new = before.metadata.get("account_id"), saved.metadata.get("account_id")
    differs = old != new if old and new else before.account != saved.account
    return (before.account or old) if differs else None


def missing_scopes(asked: Sequence[str], granted: Sequence[str]) -> tuple[str, ...]:
    """Scopes that were asked for and not granted (R107).

    Providers may answer in a longer spelling (``email`` as ``https://.../auth/userinfo.email``, Microsoft's
    ``User.Read`` as ``https://graph.microsoft.com/User.Read``), in another case, and leave out the scope that
    only asks for a refresh token (OpenID Connect Core §11).
    """
    known = [scope.lower() for scope in granted]

    def is_there(scope: str) -> bool:
        wanted = scope.lower()
        return wanted in {"offline_access", "offline", "refresh_token"} or any(
            one == wanted or one.endswith((f"/{wanted}", f".{wanted}")) for one in known
        )

    return tuple(scope for scope in asked if not is_there(scope))


def _sentences(error: ConfigurationError) -> str:
    return "; ".join(str(fault) for fault in error.faults) + "."
