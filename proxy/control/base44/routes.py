"""Where each of Base44's calls is, and what all of them have in common."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import hdrs, web

from proxy import log
from proxy.connectors.seal import SealBrokenError
from proxy.control.base44.answers import (
    APP_USERS,
    FOREIGN_APP,
    NOT_SERVED,
    STRIPE,
    VAULT_UNAVAILABLE,
    Refusal,
    document,
    entry_of,
    refusal,
)
from proxy.control.base44.asking import Asker, ServiceKeys
from proxy.control.base44.calls import CallApi, Make
from proxy.control.base44.integrations import Integrations
from proxy.control.base44.served import Served
from proxy.control.base44.tokens import Tokens
from proxy.errors import AccountError, InvalidKey, RequestError, StateError, StoreError
from proxy.forwarding.slowdown import Slowdown

Call = Callable[[web.Request, Asker], Awaitable[web.Response]]
_APP = "/api/apps/{app}"
_TYPE = "{type:[^{}/]+}"


@dataclass(frozen=True, slots=True)
class Base44Calls:
    """The calls of Base44's SDK and command line that are about connectors; all others are told so.

    Args:
        served: what they are answered from.
        keys: who may ask.
        note_use: told the id of a good key that was used.
        connect_base_url: where a person connects accounts.
        make: sends a request on the data path.
    """

    served: Served
    keys: ServiceKeys
    note_use: Callable[[str], None]
    connect_base_url: str
    make: Make
    slowdown: Slowdown = field(default_factory=Slowdown)

    def add(self, app: web.Application) -> None:
        """Answer the calls."""
        for method, path, call in self._calls():
            app.router.add_route(method, f"{_APP}/{path}", self._answering(path, call))
        for method, path in _OF_APP_USERS:
            app.router.add_route(method, f"{_APP}/{path}", self._unasked(path))
        app.router.add_route("*", f"{_APP}/{{rest:.*}}", self._answering("other", _not_served))

    def _calls(self) -> tuple[tuple[str, str, Call], ...]:
        tokens, integrations = Tokens(self.served), Integrations(self.served)
        calls = CallApi(self.served, self.make)
        return (
            ("GET", "external-auth/tokens/connectors/{id:[^{}/]+}", tokens.of_connection),
            ("GET", f"external-auth/tokens/{_TYPE}", tokens.of_type),
            ("GET", "external-auth/available-integrations", integrations.available),
            ("GET", "external-auth/list", integrations.listing),
            ("PUT", f"external-auth/integrations/{_TYPE}", integrations.begin),
            ("GET", "external-auth/status", integrations.status),
            ("DELETE", f"external-auth/integrations/{_TYPE}/remove", integrations.remove),
            ("POST", f"connectors/{_TYPE}/call", calls.answer),
            ("GET", "payments/stripe/status", _stripe_status),
            ("POST", "payments/stripe/install", _stripe),
            ("DELETE", "payments/stripe", _stripe),
        )

    def _unasked(self, name: str) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Calls of an app's own users, whose tokens mean nothing here: the same answer to everybody."""

        async def answer(request: web.Request) -> web.Response:
            if self.served.app_id() is None:
                raise web.HTTPNotFound
            return self._refused(request, name, secrets.token_hex(8), Refusal(APP_USERS, _APP_USERS_TEXT))

        return answer

    def _answering(self, name: str, call: Call) -> Callable[[web.Request], Awaitable[web.Response]]:
        """The app is served, the key is good; what goes wrong is told in Base44's shape; all is logged."""

        async def answer(request: web.Request) -> web.Response:
            if self.served.app_id() is None:
                raise web.HTTPNotFound
            request_id = secrets.token_hex(8)
            asker: Asker | None = None
            try:
                asker = self.keys.asker(request)
                self.note_use(asker.key_id)
                self._check_app(request)
                made = await call(request, asker)
            except InvalidKey as error:
                await asyncio.sleep(self.slowdown.failed(request.remote or "", time.monotonic()))
                return self._refused(request, name, request_id, error)
            except (RequestError, Refusal) as error:
                return self._refused(request, name, request_id, error, asker)
            except SealBrokenError as broken:
                return self._refused(
                    request, name, request_id, Refusal(VAULT_UNAVAILABLE, str(broken)), asker
                )
            except (StoreError, StateError):
                text = "the vault cannot be read or written for now: see the log"
                failure = Refusal(VAULT_UNAVAILABLE, text, retry_after=5.0)
                return self._refused(request, name, request_id, failure, asker)
            self._log(request, name, request_id, asker, made.status)
            return made

        return answer

    def _check_app(self, request: web.Request) -> None:
        """Only the app that the settings name is served; nobody learns more without a key (R173)."""
        if request.match_info["app"] != self.served.app_id():
            raise Refusal(FOREIGN_APP, "this server answers for another app: see base44.serve_app_id")

    def _refused(
        self,
        request: web.Request,
        name: str,
        request_id: str,
        error: RequestError | Refusal,
        asker: Asker | None = None,
    ) -> web.Response:
        more = {}
        service = error.service if isinstance(error, RequestError) else None
        if isinstance(error, AccountError) and service is not None:
            more["connect_url"] = f"{self.connect_base_url}/connect/{service}"
        made = refusal(error, request_id=request_id, more=more)
        self._log(request, name, request_id, asker, made.status, code=entry_of(error).code)
        return made

    def _log(
        self,
        request: web.Request,
        name: str,
        request_id: str,
        asker: Asker | None,
        status: int,
        *,
        code: str | None = None,
    ) -> None:
        """One line a call (R155): of its address only what chooses the call, and a service that there is."""
        service = request.match_info.get("type", "")
        log.event(
            "base44_call",
            level="info" if code is None else "warning",
            request_id=request_id,
            method=request.method if request.method in hdrs.METH_ALL else "-",
            call=name.partition("{")[0].strip("/"),
            service=service if service in self.served.catalog().services else None,
            key_id=None if asker is None else asker.key_id,
            status=status,
            error=code,
            caller=request.remote or "",
        )


_OF_APP_USERS = (
    ("*", "app-user-auth/{rest:.*}"),
    ("*", "end-user-auth/{rest:.*}"),
)
_APP_USERS_TEXT = (
    "connections of an app's own users are not kept here: the accounts of this vault belong to the app; "
    "use getConnection(type), or getWorkspaceConnection(id) for one of several"
)


async def _not_served(request: web.Request, asker: Asker) -> web.Response:  # noqa: ARG001  # one shape for all calls
    raise Refusal(
        NOT_SERVED, "this server answers Base44's connectors calls only: send the others to Base44 itself"
    )


async def _stripe_status(request: web.Request, asker: Asker) -> web.Response:  # noqa: ARG001  # likewise
    """The command line asks with each push and pull: it is not installed."""
    return document({"stripe_mode": None, "sandbox_claim_url": None})


async def _stripe(request: web.Request, asker: Asker) -> web.Response:  # noqa: ARG001  # likewise
    raise Refusal(STRIPE, "Stripe works with a secret key, not with a connected account: it is not kept here")
