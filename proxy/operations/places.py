"""Where a server is reached from this machine."""

from collections.abc import Iterable, Mapping
from typing import Any

from proxy import instance, localca
from proxy.settings import Settings
from proxy.snippets import DEFAULT_DATA, DEFAULT_TLS, Places

_ANY = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # what a server is bound to, not called by


def running(settings: Settings) -> Mapping[str, Any] | None:
    """What the running server told of itself, or None."""
    return instance.running(settings.storage.data_dir)


def places_of(settings: Settings, told: Mapping[str, Any] | None) -> Places:
    """The running server's places, or those that it would have by default."""
    data, tls = ((told or {}).get(name, ()) for name in ("data", "tls"))
    configured = [str(one) for one in settings.data.listen], [str(one) for one in settings.data.tls.listen]
    return Places(
        settings.data.public_url or origin_of("http", data or configured[0]) or DEFAULT_DATA,
        origin_of("https", tls or configured[1]) or DEFAULT_TLS,
        str(settings.data.tls.cert_file or localca.certificate_path(settings.storage.data_dir)),
    )


def origin_of(scheme: str, addresses: Iterable[str]) -> str | None:
    """``scheme://host:port`` of the first TCP address, as a caller on this machine writes it."""
    for address in addresses:
        host, colon, port = address.rpartition(":")
        if colon and not address.startswith("unix:"):
            return f"{scheme}://{_ANY.get(host, host)}:{port}"
    return None
