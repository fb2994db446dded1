"""The side of a server that runs once, however many processes forward: control plane and scheduled work."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Container, Iterable, Mapping
from functools import partial

from aiohttp import web
from yarl import URL

from proxy import certificates, log
from proxy.assembly.providers import oidc_secret, token_endpoint
from proxy.base44side import DataPath, base44_calls
from proxy.budgets import Budgets
from proxy.connecting import connecting_of
from proxy.control.api.door import Door
from proxy.control.api.routes import AdminApi
from proxy.control.browsers import Cookies
from proxy.control.connect import ConnectPages
from proxy.control.dashboard import TEMPLATE_VALUES, Ground, add_dashboard
from proxy.control.guarded import LOOPBACK_HOSTS
from proxy.control.health import Readiness, make_control_app
from proxy.control.html import Pages
from proxy.control.listener import ControlRunner
from proxy.control.operating import Operating
from proxy.control.signin import SignIn, Ways
from proxy.core import Core
from proxy.feed import Feed
from proxy.forwarding.headroom import Told
from proxy.history import LOOK_S, History
from proxy.listeners import Sockets, texts
from proxy.operations import operation
from proxy.operations.operation import Parts
from proxy.operations.places import places_of
from proxy.settings import Settings
from proxy.threads import in_daemon
from proxy.watchkeeping import Watchkeeper


class ControlSide:
    """The control plane on sockets that others bound, and what has to be done from time to time.

    Args:
        core: see Core.
        sockets: bound; those of the control plane are served here.
        ready: whether requests can be answered; asked for every ``/readyz``.

    ``feed`` shows people requests as they happen, if it is given them; see there. ``take_budgets`` gives what
    services told of calls left since it was last asked.
    """

    def __init__(self, core: Core, sockets: Sockets, ready: Callable[[], Readiness]) -> None:
        self._core = core
        self._watch = None if core.vault is None else Watchkeeper(core, core.vault)
        self._sockets = sockets
        self._ready = ready
        self.feed = Feed()
        self._uses: dict[str, float] = {}
        self.history = History(core.metrics.whole, time.time)
        self.take_budgets: Callable[[], Iterable[Told]] = tuple
        self.budgets = Budgets(time.time)
        core.metrics.gauge(
            "rate_limit_left_ratio",
            "Least share of a service's limits that is left, of what it told in the last 5 minutes",
            lambda: self._budgets().shares(),
            label="service",
        )
        self._calls = DataPath(core, core.settings.control.origin(texts(sockets.control)))
        self._tls = certificates.control_context(core.settings)
        self._runner = ControlRunner(
            make_control_app(
                ready=ready,
                metrics=core.metrics,
                allowed_hosts=hosts_of(core.settings),
                front=core.settings.server.front,
                more=self._pages(core),
            ),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
        )

    def _pages(self, core: Core) -> Iterable[Callable[[web.Application], None]]:
        """The pages for people; none where there is no vault to connect an account in."""
        if core.vault is None or core.registrations is None or core.follower is None:
            return ()
        settings, public_url = core.settings, core.settings.control.origin(texts(self._sockets.control))
        if public_url.startswith("http:") and URL(public_url).host not in LOOPBACK_HOSTS:
            log.event("control_plane_unencrypted", level="warning", public_url=public_url)
        connecting = connecting_of(
            settings,
            lambda: core.catalog,
            core.vault,
            core.registrations,
            core.dialer,
            public_url=public_url,
        )
        pages, cookies = Pages(TEMPLATE_VALUES), Cookies(secure=public_url.startswith("https:"))
        endpoint = token_endpoint(core.dialer)
        sign_in = SignIn(core.vault, pages, cookies, ways_of(settings, public_url))
        connect = ConnectPages(
            connecting,
            lambda: core.catalog,
            core.vault,
            pages,
            cookies,
            sign_in,
            settings.control.return_to,
        )
        parts = Parts(core.registrations, connecting, endpoint)
        operating = Operating(lambda: self._ground(parts), core.follower.look)
        ground = Ground(
            core.vault,
            core.registrations,
            connecting,
            operating,
            pages,
            sign_in,
            settings=lambda: core.settings,
            catalog=lambda: core.catalog,
            keys=lambda: core.keys,
            feed=self.feed,
            history=self.history,
            budgets=self._budgets,
            account_uses=self._account_uses,
            places=lambda: places_of(core.settings, self._sockets.addresses()),
        )
        api = AdminApi(operating, Door(core.vault, sign_in), self.feed)
        base44 = base44_calls(
            core, core.vault, core.registrations, connecting, self._calls, public_url=public_url
        )
        dashboard = partial(add_dashboard, ground=ground)
        adders = (pages.add, sign_in.add, connect.add, dashboard, api.add, base44.add)
        if sign_in.ways.provider is None:
            return adders
        from proxy.control.oidc import oidc_pages  # noqa: PLC0415  # PyJWT, which only its users pay

        secret = oidc_secret(settings)
        oidc = oidc_pages(
            settings.control.oidc, secret, sign_in, endpoint, vault=core.vault, pages=pages, cookies=cookies
        )
        log.event("oidc_sign_in", issuer=settings.control.oidc.issuer, redirect_uri=oidc.redirect_uri)
        return (*adders, oidc.add)

    def _ground(self, parts: Parts) -> operation.Ground:
        core, checks = self._core, self._ready().checks
        return operation.Ground(
            core.settings,
            core.catalog,
            core.vault,
            lambda _: parts,
            time.time(),
            checks,
            budgets=self._budgets,
        )

    def _budgets(self) -> Budgets:
        """With what was told until now."""
        self.budgets.take(self.take_budgets())
        return self.budgets

    async def start(self) -> None:
        """Answer on the control plane from now on, and begin the scheduled work.

        First, what providers answered before the last stop is saved; a few seconds are waited for it (R118).
        """
        if self._core.refresher is not None:
            self._core.keep(self._core.refresher.run, "refreshes")
            await self._core.refresher.begun()
        self._calls.start()
        await self._runner.setup()
        for one in self._sockets.control:
            context = None if one.family == socket.AF_UNIX else self._tls
            await web.SockSite(self._runner, one, ssl_context=context).start()
        if self._tls is not None:
            keep_certificate = partial(self._keep_certificate, self._tls, self._told_of_reloads())
            self._core.keep(keep_certificate, "certificate of the control plane")
        self._core.keep(self._look_always, "history")
        follower = self._core.follower
        if follower is not None:
            self._core.keep(follower.note_uses, "key uses")
            self._core.keep(partial(follower.prune, self._core.settings.audit.keep_days), "audit")
        if self._watch is not None:
            self._watch.start()

    def _account_uses(self) -> Mapping[str, float]:
        told, vault = self._core.take_account_uses(), self._core.vault
        self._uses = uses_of(() if vault is None else vault.snapshot.held, self._uses, told)
        return self._uses

    async def _look_always(self) -> None:
        while True:
            self.history.look()
            self._budgets()
            await asyncio.sleep(LOOK_S)

    def _told_of_reloads(self) -> asyncio.Event:
        """Set by each reload from now on."""
        renew, earlier = asyncio.Event(), self._core.on_reload

        def reloaded() -> None:
            earlier()
            renew.set()

        self._core.on_reload = reloaded
        return renew

    async def _keep_certificate(self, context: ssl.SSLContext, renew: asyncio.Event) -> None:
        """Look for a newer certificate after each reload, and once a day."""
        settings = self._core.settings
        await certificates.keep(
            renew,
            certificates.RENEW_EVERY_S,
            prove=lambda: in_daemon(lambda: certificates.control_context(settings), name="certificate"),
            show=lambda: certificates.show_control_certificate(context, settings),
        )

    async def close(self) -> None:
        """End the control plane. Uses of keys that were not written yet are written."""
        self.feed.close()
        await self._runner.cleanup()
        await self._calls.close()
        if self._core.follower is not None:
            await self._core.follower.close()


def uses_of(
    there: Container[str], before: Mapping[str, float], told: Mapping[str, float]
) -> dict[str, float]:
    """Last uses by connection id, with what was told since; none of connections that are not there."""
    return {one: when for one, when in {**before, **told}.items() if one in there}


def ways_of(settings: Settings, public_url: str) -> Ways:
    """How people sign in to the control plane at that origin."""
    control = settings.control
    provider = None if control.oidc.issuer is None else control.oidc.label
    return Ways(control.password_sign_in, provider, public_url)


def hosts_of(settings: Settings) -> tuple[str, ...]:
    """Names by which the control plane may be called, besides those of loopback."""
    public = URL(settings.control.origin()).raw_host
    return (*settings.control.allowed_hosts, *((public,) if public else ()))
