"""The connect pages on a socket of their own, before a provider that asks for consent: everything but processes."""

import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aiohttp import web

from proxy.assembly.inforce import catalog_of
from proxy.assembly.providers import declared_registrations, oidc_secret, token_endpoint
from proxy.assembly.vaults import master_key_of
from proxy.budgets import Budgets
from proxy.catalog.model import Catalog
from proxy.connecting import Connecting
from proxy.connectors.flow import Begun, Wish
from proxy.connectors.flows import Flows
from proxy.connectors.model import Connection, Credential
from proxy.connectors.oauth.registration import Registration, Registrations
from proxy.connectors.vault import Vault
from proxy.control.attempts import Attempts
from proxy.control.browsers import Cookies
from proxy.control.connect import ConnectPages
from proxy.control.dashboard import TEMPLATE_VALUES, Ground, add_dashboard
from proxy.control.guarded import guarded_app
from proxy.control.html import Pages
from proxy.control.listener import ControlRunner
from proxy.control.oidc import OidcPages, oidc_pages
from proxy.control.operating import Operating
from proxy.control.signin import SignIn
from proxy.controlside import ways_of
from proxy.feed import Feed
from proxy.forwarding.egress import Dialer
from proxy.history import History
from proxy.operations import operation
from proxy.operations.operation import Parts
from proxy.sandbox import CLIENT_ID, CONFIG, HOST, SERVICE, Sandbox, make_certificate, service_file
from proxy.secret import Secret
from proxy.settings import load_settings
from proxy.snippets import Places
from proxy.verify import Verdict, verify_new
from support.browser import Browser, Page

APP_SECRET = "canaryAPPSECRET" + "q1w2e3r4t5"


@dataclass(slots=True)
class Scene:
    """Pages, vault and provider of one test. ``ahead``: seconds by which our clock runs before the real one.

    ``patience``: seconds by which whoever failed to sign in through an identity provider has waited.
    """

    sandbox: Sandbox
    vault: Vault
    catalog: Catalog
    connecting: Connecting
    registrations: Registrations
    public_url: str
    ahead: float = 0.0
    patience: float = 0.0
    oidc: OidcPages | None = None
    operating: Operating | None = None
    seen: list[Any] = field(default_factory=list)
    feed: Feed = field(default_factory=Feed)
    budgets: Budgets = field(default_factory=lambda: Budgets(time.time))
    used: dict[str, float] = field(default_factory=dict)
    counted: dict[str, Any] = field(default_factory=dict)

    @property
    def flows(self) -> Flows:
        return self.connecting.flows

    async def begin(self, name: str = "default", **wish: Any) -> Begun:
        """A link, as a command line would make it."""
        given = {"params": CONFIG, **wish}
        return await self.flows.begin(Wish(given.pop("service", SERVICE), name, **given), actor="test")

    def link(self, begun: Begun, service: str = SERVICE) -> str:
        return f"{self.public_url}/connect/{service}?link={begun.link.reveal()}"

    async def to_consent(self, browser: Browser, begun: Begun | None = None) -> Page:
        """The provider's page in that browser."""
        page = await browser.open(self.link(begun or await self.begin()))
        page = await browser.submit(page)
        assert str(page.url).startswith(self.sandbox.browser_origin), page
        return page

    async def allowed(self, browser: Browser, begun: Begun | None = None, **changed: Any) -> Page:
        """The redirect of the provider's consent, not followed yet."""
        page = await self.to_consent(browser, begun)
        fields = {"decision": "allow", "scope": page.form.offered.get("scope", []), **changed}
        return await browser.send(page, **fields)

    async def connect(self, browser: Browser, begun: Begun | None = None, **changed: Any) -> Page:
        """The whole way; the page where it ends."""
        return await browser.follow(await self.allowed(browser, begun, **changed))

    def connection(self, service: str = SERVICE, name: str = "default") -> Connection | None:
        held = self.vault.snapshot.find(service, name)
        return None if held is None else held.connection

    def token(self, service: str = SERVICE, name: str = "default") -> str:
        """The access token that is stored."""
        held = self.vault.snapshot.find(service, name)
        assert held is not None
        assert held.tokens is not None
        return held.tokens.access_token.reveal()


def settings_file(folder: Path, sandbox: Sandbox, certificate: Path, *more: str) -> Path:
    """A configuration with the sandbox's service and app, on free ports."""
    services = folder / "services"
    services.mkdir(exist_ok=True)
    (services / f"{SERVICE}.toml").write_text(service_file(sandbox.browser_origin))
    (folder / "app-secret").write_text(APP_SECRET)
    path = folder / "proxy.toml"
    path.write_text(
        "\n".join(
            (
                "[data]",
                'listen = ["127.0.0.1:0"]',
                "[control]",
                'listen = ["127.0.0.1:0"]',
                "[storage]",
                f"data_dir = {json.dumps(str(folder / 'data'))}",
                "[services]",
                f"directory = {json.dumps(str(services))}",
                f'enabled = ["{SERVICE}"]',
                "[egress]",
                f"ca_file = {json.dumps(str(certificate))}",
                f'connect_to = {{ "{HOST}:443" = "127.0.0.1:{sandbox.port}" }}',
                f"[registrations.{SERVICE}]",
                f'client_id = "{CLIENT_ID}"',
                f"client_secret = {{ file = {json.dumps(str(folder / 'app-secret'))} }}",
                *more,
                "",
            )
        )
    )
    return path


@contextlib.asynccontextmanager
async def provider(folder: Path) -> AsyncIterator[tuple[Sandbox, Path]]:
    """A running sandbox and its certificate."""
    certificate = make_certificate(folder)
    sandbox = Sandbox(certificate, "no-such-token", lambda _: None, app_secret=APP_SECRET)
    await sandbox.start()
    try:
        yield sandbox, certificate
    finally:
        await sandbox.stop()


@contextlib.asynccontextmanager
async def scene(
    folder: Path,
    *,
    return_to: tuple[str, ...] = (),
    password: str | None = None,
    verified: str = "live",
    declared: bool = True,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> AsyncIterator[Scene]:
    """A scene with an empty vault.

    Args:
        folder: an empty one.
        return_to: origins that a browser may be sent to.
        password: the stored hash of an operator's password.
        verified: how well the scopes of the service's file are known.
        declared: whether the settings have the sandbox's app.
        environ: further settings, such as those of ``[control.oidc]``.
    """
    async with provider(folder) as (sandbox, certificate):
        settings = load_settings(settings_file(folder, sandbox, certificate), environ)
        path = folder / "services" / f"{SERVICE}.toml"
        path.write_text(
            path.read_text().replace('scopes_verified = "live"', f'scopes_verified = "{verified}"')
        )
        catalog = catalog_of(settings)
        made: Scene | None = None

        def clock() -> float:
            return time.time() + (made.ahead if made is not None else 0.0)

        vault = await Vault.open(
            settings.storage.data_dir, master_key_of(settings), catalog=catalog, clock=clock
        )
        dialer = Dialer(settings.egress.policy(()), time.monotonic)
        apps = declared_registrations(settings, catalog) if declared else {}
        registrations = Registrations(apps, vault)
        app = guarded_app(())
        runner = ControlRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        listening = socket.create_server(("127.0.0.1", 0))
        public_url = f"http://localhost:{listening.getsockname()[1]}"

        async def check(service: Any, credential: Credential) -> Verdict:
            return await verify_new(settings, dialer, service, credential)

        flows = Flows(vault, lambda: catalog, registrations, public_url=public_url, clock=clock)
        connecting = Connecting(flows, vault, token_endpoint(dialer), check)
        made = Scene(sandbox, vault, catalog, connecting, registrations, public_url)
        pages, cookies = Pages(TEMPLATE_VALUES), Cookies(secure=False)
        ways = ways_of(settings, public_url)
        sign_in = SignIn(vault, pages, cookies, ways, clock=clock, attempts=Attempts(clock))
        if password is not None:
            await vault.set_password(password, actor="test")
        pages.add(app)
        sign_in.add(app)
        ConnectPages(connecting, lambda: catalog, vault, pages, cookies, sign_in, return_to).add(app)
        parts = Parts(registrations, connecting, token_endpoint(dialer))

        def operated() -> operation.Ground:
            return operation.Ground(
                settings, catalog, vault, lambda _: parts, clock(), budgets=lambda: made.budgets
            )

        made.operating = Operating(operated, _nothing)
        ground = Ground(
            vault,
            registrations,
            connecting,
            made.operating,
            pages,
            sign_in,
            settings=lambda: settings,
            catalog=lambda: catalog,
            keys=lambda: vault.snapshot.keys,
            places=Places,
            feed=made.feed,
            budgets=lambda: made.budgets,
            account_uses=lambda: made.used if made is not None else {},
            history=History(lambda: {"counters": {"services": dict(made.counted)}, "gauges": {}}, clock),
            clock=clock,
        )
        add_dashboard(app, ground)
        if ways.provider is not None:
            secret = oidc_secret(settings)
            endpoint = token_endpoint(dialer)
            oidc = oidc_pages(
                settings.control.oidc,
                secret,
                sign_in,
                endpoint,
                vault=vault,
                pages=pages,
                cookies=cookies,
                clock=clock,
                attempts=Attempts(lambda: clock() + (made.patience if made is not None else 0.0)),
            )
            oidc.add(app)
            made.oidc = oidc
        try:
            await runner.setup()
            await web.SockSite(runner, listening).start()
            yield made
        finally:
            await runner.cleanup()
            await dialer.aclose()
            await vault.close()
            listening.close()


async def _nothing() -> None:
    """Nobody has to take in what was changed: there is this one process."""


def registration(family: str, secret: str = "made-up") -> Registration:
    """An app of that family, for services whose provider is never asked."""
    return Registration(family, family, f"{family}-client", Secret(secret))
