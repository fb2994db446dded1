"""``connect`` with a provider's consent: a link for a browser, or an address to carry there and back."""

import asyncio
import sys
import time
import webbrowser
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from aiohttp import web
from yarl import URL

from proxy import certificates, instance, listeners, log
from proxy.assembly.inforce import catalog_of
from proxy.assembly.providers import declared_registrations
from proxy.catalog.model import Catalog, Service
from proxy.cli import output
from proxy.cli.ground import public_url_of
from proxy.cli.session import ACTOR, with_vault
from proxy.connecting import Connecting, connecting_of
from proxy.connectors.flow import Begun, Wish, oauth_of
from proxy.connectors.oauth.messages import needs_browser
from proxy.connectors.oauth.registration import Registrations
from proxy.connectors.outcomes import FlowRefused, Outcome
from proxy.connectors.vault import Vault
from proxy.connectors.vault_flows import Stage
from proxy.control.browsers import Cookies
from proxy.control.connect import ConnectPages
from proxy.control.guarded import guarded_app
from proxy.control.html import Pages
from proxy.control.listener import ControlRunner
from proxy.errors import ConfigurationError, Fault
from proxy.forwarding.egress import Dialer
from proxy.operations.services import find_service
from proxy.secret import Secret
from proxy.settings import Settings, environment

POLL_S = 0.2
_SHOWN_S = 5.0
_TRIES = 3
_STAGES: Mapping[Stage, str] = {
    "begun": "Waiting for the browser ...",
    "opened": "The page is open: compare the code and go on there ...",
    "away": "Waiting for your decision at {title} ...",
    "back": "Fetching and storing the tokens ...",
}


@dataclass(frozen=True, slots=True)
class Way:
    """How the person gets to the provider. ``paste``: no browser reaches us; ``browser``: open one here."""

    paste: bool = False
    browser: bool = True


def authorize(settings: Settings, wish: Wish, way: Way) -> Outcome:
    """Connect an account by the provider's consent, and wait for how that ends.

    Raises:
        SetupError: what has to be put right first; nothing was begun then.
        FlowRefused: what was pasted is not the answer.
    """
    service = find_service(catalog_of(settings), wish.service)
    oauth_of(service)
    if not needs_browser(service):
        return with_vault(settings, lambda vault, catalog: _mint(settings, vault, catalog, wish))
    if way.paste:
        return _by_paste(settings, service, wish)
    return with_vault(settings, lambda vault, catalog: _by_browser(settings, vault, catalog, wish, way))


@asynccontextmanager
async def opened_connecting(
    settings: Settings, vault: Vault, catalog: Catalog, public_url: str
) -> AsyncIterator[Connecting]:
    """What takes a flow to its end in this process."""
    dialer = Dialer(settings.egress.policy(()), time.monotonic)
    registrations = Registrations(declared_registrations(settings, catalog), vault)
    try:
        yield connecting_of(settings, lambda: catalog, vault, registrations, dialer, public_url=public_url)
    finally:
        await dialer.aclose()


def titled(settings: Settings, type_id: str) -> str:
    """A service's title."""
    return find_service(catalog_of(settings), type_id).title


async def _mint(settings: Settings, vault: Vault, catalog: Catalog, wish: Wish) -> Outcome:
    service = find_service(catalog, wish.service)
    async with opened_connecting(settings, vault, catalog, public_url_of(settings)) as connecting:
        registration = await connecting.flows.registration_for(service, wish.registration)
        return await connecting.mint(service, wish.name, registration, wish.params, actor=ACTOR)


# --- a browser that reaches the control plane -----------------------------------------------------------


async def _by_browser(settings: Settings, vault: Vault, catalog: Catalog, wish: Wish, way: Way) -> Outcome:
    told = instance.running(settings.storage.data_dir)
    if told is not None and told.get("control"):
        async with opened_connecting(settings, vault, catalog, public_url_of(settings)) as connecting:
            outcome = await _follow(connecting, catalog, wish, way)
            await vault.catch_up()  # the server has stored it
            return outcome
    with listeners.bound_control(settings) as sockets:
        public_url = settings.control.origin(listeners.texts(sockets))
        async with opened_connecting(settings, vault, catalog, public_url) as connecting:
            await connecting.flows.registration_for(find_service(catalog, wish.service), wish.registration)
            log.configure(settings.log.format, "error")  # what happens is told here as it happens
            async with _served(settings, connecting, vault, catalog, sockets) as shown:
                outcome = await _follow(connecting, catalog, wish, way)
                if outcome.reason not in {"expired", "given_up"}:
                    await _until(shown)
                return outcome


@asynccontextmanager
async def _served(
    settings: Settings, connecting: Connecting, vault: Vault, catalog: Catalog, sockets: listeners.Bound
) -> AsyncIterator[asyncio.Event]:
    """The pages of one flow on the control plane's own address; the event: the last one was fetched."""
    public = URL(connecting.flows.public_url)
    pages, shown = Pages(), asyncio.Event()
    app = guarded_app((*settings.control.allowed_hosts, *((public.raw_host,) if public.raw_host else ())))
    pages.add(app)
    cookies = Cookies(secure=public.scheme == "https")
    ConnectPages(connecting, lambda: catalog, vault, pages, cookies).add(app)

    async def note(request: web.Request, _: web.StreamResponse) -> None:
        if request.path.startswith(("/result/", "/refused/")):
            shown.set()

    app.on_response_prepare.append(note)
    runner = ControlRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    try:
        await runner.setup()
        for one in sockets:
            await web.SockSite(runner, one, ssl_context=certificates.control_context(settings)).start()
        yield shown
    finally:
        await runner.cleanup()


async def _until(shown: asyncio.Event) -> None:
    """The person sees how it ended before the pages go."""
    try:
        async with asyncio.timeout(_SHOWN_S):
            await shown.wait()
    except TimeoutError:
        return


async def _follow(connecting: Connecting, catalog: Catalog, wish: Wish, way: Way) -> Outcome:
    """Begin a flow, show its link, tell how it goes; one that is left is given up."""
    service = find_service(catalog, wish.service)
    begun = await connecting.flows.begin(wish, actor=ACTOR)
    given_up = Outcome(wish.service, wish.name, "given_up")
    try:
        link = _link(connecting, service, begun)
        await asyncio.to_thread(show_link, link, begun.code, begun.expires_at, way)
        return await _outcome(connecting, service, begun)
    except asyncio.CancelledError:
        await connecting.flows.settle(begun.flow_id, given_up)
        raise


def _link(connecting: Connecting, service: Service, begun: Begun) -> str:
    return f"{connecting.flows.public_url}/connect/{service.type_id}?link={begun.link.reveal()}"


def show_link(link: str, code: str, expires_at: float, way: Way) -> None:
    """Tell a person where to go on, and open a browser there if it would be seen."""
    minutes = max(1, round((expires_at - time.time()) / 60))
    output.note(f"Open this address in your browser (it works once, for {minutes} minutes):\n")
    output.note(f"    {link}\n")
    output.note(f"The page shows this code: {code}\n")
    if way.browser and _has_display():
        webbrowser.open(link)


async def _outcome(connecting: Connecting, service: Service, begun: Begun) -> Outcome:
    said: Stage | None = None
    while True:
        stage, outcome = await connecting.flows.progress(begun.flow_id)
        if outcome is not None:
            return outcome
        said = note_stage(stage, said, service.title)
        await asyncio.sleep(POLL_S)


def note_stage(stage: Stage, said: Stage | None, title: str) -> Stage | None:
    """Tell a person of a stage that is new; the one that was told last."""
    if stage == said or stage not in _STAGES:
        return said
    output.note(_STAGES[stage].format(title=title))
    return stage


def _has_display() -> bool:
    """True where a person would see a browser that opens: not over ssh, not in a container."""
    given = environment()
    if given.get("SSH_CONNECTION") or given.get("SSH_TTY"):
        return False
    return sys.platform == "darwin" or bool(given.get("DISPLAY") or given.get("WAYLAND_DISPLAY"))


# --- an address carried by hand -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Carried:
    """A flow whose provider address a person carries to some browser."""

    flow_id: str
    browser: Secret
    address: str


def _by_paste(settings: Settings, service: Service, wish: Wish) -> Outcome:
    """This terminal is the browser's other half: what it made stays here, what comes back is typed here."""
    oauth = oauth_of(service)
    if wish.scopes is None and oauth.scopes and oauth.scopes_verified == "memory":
        with_vault(settings, lambda vault, catalog: _check_registration(settings, vault, catalog, wish))
        wish = replace(wish, scopes=_asked_scopes(service, oauth.scopes))
    carried = with_vault(settings, lambda vault, catalog: _depart(settings, vault, catalog, wish))
    output.note("Open this address in any browser and decide there:\n")
    output.note(f"    {carried.address}\n")
    output.note(
        "The browser then goes to an address that it may not reach; that is fine. Copy that address "
        "and paste it here:"
    )
    left = _TRIES if sys.stdin.isatty() else 1
    while True:
        left -= 1
        try:
            pasted = _pasted(sys.stdin.readline())
            break
        except ConfigurationError as error:
            if not left:
                raise
            output.note(str(error))
    return with_vault(settings, lambda vault, catalog: _finish(settings, vault, catalog, carried, pasted))


def _asked_scopes(service: Service, suggested: tuple[str, ...]) -> tuple[str, ...]:
    """Scopes that are known from memory only are asked for, not assumed."""
    shown = " ".join(suggested)
    if not sys.stdin.isatty():
        raise ConfigurationError(
            Fault(
                "--scope",
                f"{service.title}'s scopes are known from memory only: check them at "
                f"{service.docs} and say them, for example "
                + " ".join(f"--scope {scope}" for scope in suggested),
            )
        )
    output.note(f"Permissions to ask for, from memory, not from {service.title}'s documentation: {shown}")
    output.note("Press Enter to ask for these, or type others, separated by spaces:")
    typed = sys.stdin.readline().split()
    return tuple(typed) or suggested


async def _check_registration(settings: Settings, vault: Vault, catalog: Catalog, wish: Wish) -> None:
    """Nobody is asked for scopes before there is an app that could ask for them."""
    async with opened_connecting(settings, vault, catalog, public_url_of(settings)) as connecting:
        await connecting.flows.registration_for(find_service(catalog, wish.service), wish.registration)


async def _depart(settings: Settings, vault: Vault, catalog: Catalog, wish: Wish) -> _Carried:
    async with opened_connecting(settings, vault, catalog, public_url_of(settings)) as connecting:
        begun = await connecting.flows.begin(wish, actor=ACTOR)
        _, browser = await connecting.flows.open(wish.service, begun.link)
        address = await connecting.flows.depart(begun.flow_id, browser)
        return _Carried(begun.flow_id, browser, address)


async def _finish(
    settings: Settings,
    vault: Vault,
    catalog: Catalog,
    carried: _Carried,
    pasted: "_Pasted",
) -> Outcome:
    async with opened_connecting(settings, vault, catalog, public_url_of(settings)) as connecting:
        browsers = {carried.flow_id: carried.browser}
        _, outcome = await connecting.finish(pasted.registration, pasted.query, browsers.get)
        return outcome


@dataclass(frozen=True, slots=True)
class _Pasted:
    """What a redirected address says; it holds a code, so it is never shown."""

    registration: str
    query: list[tuple[str, str]] = field(repr=False)


def _pasted(line: str) -> _Pasted:
    """Registration and parameters of a redirected address; nothing of it is ever repeated."""
    try:
        url = URL(line.strip())
    except ValueError:
        url = URL()
    before, callback, registration = url.path.rpartition("/callback/")
    if not callback or before or not registration or not url.query:
        raise ConfigurationError(
            Fault(
                "pasted address",
                "is not the one that the browser ended at: .../callback/...?code=...&state=...",
            )
        )
    return _Pasted(registration, list(url.query.items()))


def tell(outcome: Outcome, title: str) -> None:
    """How it ended, for a person; what is no success goes to standard error, with the remedy."""
    if not outcome.ok:
        refused = FlowRefused(outcome.reason, outcome.detail, outcome.service)
        output.note(f"connector-proxy: {refused}")
        return
    who = f" ({outcome.account})" if outcome.account else ""
    default = ", the default one" if outcome.is_default else ""
    output.line(f"{title}: account {outcome.name!r} is connected{default}{who}.")
    if outcome.previous_account:
        output.note(f"This is another account: until now it was {outcome.previous_account}.")
    if outcome.missing:
        output.note(f"Asked for, and not granted: {' '.join(outcome.missing)}")
    for text in outcome.notes:
        output.note(text)
