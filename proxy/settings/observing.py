"""The settings of what the proxy tells of itself: ``[audit]``, ``[log]`` and ``[tracing]``."""
# ruff: noqa: RUF009  # setting() returns a dataclass field

from dataclasses import dataclass
from typing import Literal

from proxy.settings import kinds
from proxy.settings.spec import setting

ToServices = Literal["unchanged", "continued", "removed"]


@dataclass(frozen=True, slots=True)
class Audit:
    """``[audit]``: who changed or revealed what, kept in the vault."""

    keep_days: int = setting(
        kinds.integer(least=90), 400, "How long rows are kept; 90 at least.", unit="days"
    )


@dataclass(frozen=True, slots=True)
class Log:
    """``[log]``: the event log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        kinds.choice("debug", "info", "warning", "error"),
        "info",
        "The least that is written; requests are info.",
    )
    format: Literal["auto", "console", "json"] = setting(
        kinds.choice("auto", "console", "json"), "auto", "auto: console on a terminal, else JSON lines."
    )


@dataclass(frozen=True, slots=True)
class Tracing:
    """``[tracing]``: traces for OpenTelemetry. Where they go is in its own variables, ``OTEL_...``."""

    enabled: bool = setting(
        kinds.FLAG,
        False,
        "Trace requests; needs `pip install connector-proxy[otel]`.",
    )
    to_services: ToServices = setting(
        kinds.choice("unchanged", "continued", "removed"),
        "unchanged",
        "What services get as `traceparent` and `tracestate`: what the caller sent; our span; nothing.",
    )
