"""What a refresh comes to, for those who wait for it."""

from dataclasses import dataclass

from proxy.connectors.refresh.lease import Unfit


@dataclass(frozen=True, slots=True)
class Fresh:
    """There is a newer token than the one that was to be replaced."""


@dataclass(frozen=True, slots=True)
class Lost:
    """There will be none without a person."""

    reason: Unfit
    cause: str | None = None


@dataclass(frozen=True, slots=True)
class Later:
    """None for now. ``retry_at``: epoch seconds, None when the service has to refuse the token first.

    ``again``: a further try makes sense at once. ``unless_forced``, ``only_forced``: it does not, or only,
    hold for refreshes that a refused token asks for.
    """

    detail: str
    retry_at: float | None
    again: bool = False
    unless_forced: bool = False
    only_forced: bool = False


Result = Fresh | Lost | Later
