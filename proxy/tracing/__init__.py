"""Requests as OpenTelemetry traces: an optional extra, of which nothing is loaded while it is off."""

from importlib.util import find_spec
from typing import Protocol

from proxy import log
from proxy.errors import ConfigurationError, Fault
from proxy.forwarding.record import Tracing
from proxy.settings import Settings


class Spans(Tracing, Protocol):
    """What traces requests, and holds spans until they are sent."""

    async def close(self) -> None:
        """Send what is left, in bounded time."""


_NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def check(settings: Settings) -> None:
    """Refuse to trace without the libraries that it takes.

    Raises:
        ConfigurationError: they are not installed.
    """
    if settings.tracing.enabled and not all(map(_is_there, _NEEDED)):
        raise ConfigurationError(
            Fault(
                "tracing.enabled",
                "needs packages that are not installed: pip install 'connector-proxy[otel]'",
            )
        )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even a package that it would be in
        return False


def tracing_of(settings: Settings) -> Spans | None:
    """What traces the requests of this process; None where nobody wants traces.

    Raises:
        ConfigurationError: the libraries are not installed, or their own variables make no sense.
    """
    if not settings.tracing.enabled:
        return None
    check(settings)
    from proxy.tracing.spans import opened  # noqa: PLC0415  # 0.3 s and a library that only its users have

    try:
        spans = opened(continued=settings.tracing.to_services == "continued")
    except ValueError as error:
        raise ConfigurationError(Fault("OTEL_*", f"not as OpenTelemetry wants it: {error}")) from None
    log.event("tracing", state="disabled by OTEL_SDK_DISABLED" if spans is None else "on")
    return spans
