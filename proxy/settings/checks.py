"""What no single setting can tell: settings that contradict each other."""

from collections.abc import Callable, Iterator

from proxy.errors import Fault
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
    yield from _keys(settings, place)
    yield from _sources(settings, place)
    yield from _addresses(settings, place)


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
