"""Callers for tests of addresses that come back in bodies."""

from collections.abc import Mapping
from typing import Any

from proxy.catalog.model import Service
from proxy.errors import NotPermitted
from proxy.forwarding.links.sent_back import Whose
from proxy.forwarding.nested.judging import origins
from proxy.forwarding.routing import Route, Target


def whose(services: Mapping[str, Service], host: bytes, **more: Any) -> Whose:
    """A caller that reaches the proxy at ``host`` and uses the connection ``main``."""
    given: dict[str, Any] = {
        "origins": origins(host, b""),
        "services": services,
        "listener": None,
        "root": None,
        "host": host,
        "suffixes": (),
        "connection": "main",
        "config": {},
        "presigned": _none,
    }
    return Whose(**{**given, **more})


def _none(_: Target) -> Route:
    raise NotPermitted("the address is not one that the proxy gave out, or it has expired")
