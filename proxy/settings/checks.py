"""What no single setting can tell: settings that contradict each other."""

from collections.abc import Callable, Iterator

from proxy.catalog.addresses import is_guarded
from proxy.errors import Fault
from proxy.settings.accounts import OIDC_CALLBACK, Oidc
from proxy.settings.model import Settings

Place = Callable[[tuple[str, ...]], str]


def contradictions(settings: Settings, place: Place) -> Iterator[Fault]:
    """One fault each; ``place`` tells where a dotted name was given."""
    for plane, tls in (("data", settings.data.tls), ("control", settings.control.tls)):
        if (tls.cert_file is None) != (tls.key_file is None):
            yield Fault(place((plane, "tls", "cert_file")), "cert_file and key_file belong together")
    for name, registration in settings.registrations.items():
        if registration.client_id is None:
            yield Fault(place(("registrations", name)), "a registration needs client_id")
    if (settings.webhook.url is None) != (settings.webhook.secret is None):
        yield Fault(place(("webhook", "url")), "url and secret belong together: nothing is sent unsigned")
    if settings.tracing.to_services == "continued" and not settings.tracing.enabled:
        yield Fault(place(("tracing", "to_services")), "there is no span to continue with unless enabled")
    yield from _sign_in(settings, place)
    yield from _keys(settings, place)
    yield from _sources(settings, place)
    yield from _addresses(settings, place)


def _sign_in(settings: Settings, place: Place) -> Iterator[Fault]:
    """Passwords, a provider, or both; a provider needs an address of ours that it may send browsers to."""
    given, at = settings.control.oidc, ("control", "oidc")
    if given.issuer is None or given.client_id is None:
        if given.issuer is not None or given.client_id is not None:
            yield Fault(place((*at, "issuer")), "issuer and client_id belong together")
        if not settings.control.password_sign_in:
            text = "nobody could sign in: false takes issuer and client_id of [control.oidc]"
            yield Fault(place(("control", "password_sign_in")), text)
        return
    if not is_guarded(given.issuer) or "?" in given.issuer:
        yield Fault(place((*at, "issuer")), "must be https://host[/path] (http only on this machine)")
    public_url = settings.control.origin()
    if not is_guarded(public_url):
        redirect = f"{public_url}{OIDC_CALLBACK}"
        text = f"providers redirect to https only (or to this machine), and the address would be {redirect}"
        yield Fault(place(("control", "public_url")), text)
    if not given.client_id.isascii():
        yield Fault(place((*at, "client_id")), "must be ASCII")
    yield from _who(given, at, place)


def _who(given: Oidc, at: tuple[str, ...], place: Place) -> Iterator[Fault]:
    if "openid" not in given.scopes:
        yield Fault(place((*at, "scopes")), "openid has to be among them")
    if given.email_claim != "email" and given.require_verified_email:
        text = (
            "email_verified speaks of the claim email only: another one takes require_verified_email = false"
        )
        yield Fault(place((*at, "email_claim")), text)
    if given.provision != "none" and not given.allowed_domains:
        text = "takes allowed_domains: else everybody with an account at the provider would become a user"
        yield Fault(place((*at, "provision")), text)


def _keys(settings: Settings, place: Place) -> Iterator[Fault]:
    for name, key in settings.keys.items():
        if key.hash is None:
            yield Fault(place(("keys", name)), "a declared key needs hash")
        if not key.allow:
            yield Fault(place(("keys", name)), "a declared key needs at least one permit in allow")


def _sources(settings: Settings, place: Place) -> Iterator[Fault]:
    for name, source in settings.sources.items():
        if (source.kind == "static") != (source.token is not None):
            yield Fault(place(("sources", name)), 'token goes with kind = "static", and the other way round')
        if (source.kind == "command") != bool(source.command):
            yield Fault(
                place(("sources", name)), 'command goes with kind = "command", and the other way round'
            )


def _addresses(settings: Settings, place: Place) -> Iterator[Fault]:
    """Each address once: two planes on one socket would expose one with the other."""
    taken: dict[str, str] = {}
    listening = [
        *(("data.listen", item) for item in settings.data.listen),
        *(("data.tls.listen", item) for item in settings.data.tls.listen),
        *(("control.listen", item) for item in settings.control.listen),
        *((f"listeners.{name}", item) for name, item in settings.listeners.items()),
    ]
    for name, item in listening:
        if item.port == 0 and item.path is None:
            continue
        if taken.setdefault(str(item), name) != name:
            yield Fault(place(tuple(name.split("."))), f"{item} is also an address of {taken[str(item)]}")
