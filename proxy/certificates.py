"""Certificates that our TLS listeners show: loaded, and taken anew when their files change."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from proxy import log
from proxy.errors import ConfigurationError, Fault, StateError
from proxy.settings import Settings

RENEW_EVERY_S = 86_400.0


def server_context() -> ssl.SSLContext:
    """A server's side of TLS, without a certificate yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def load_certificate(context: ssl.SSLContext, chain: Path, key: Path, *, place: str) -> None:
    """Show this certificate from now on. ``place``: the setting that names it.

    Raises:
        ConfigurationError: it cannot be read or used.
    """
    try:
        context.load_cert_chain(chain, key, password=lambda: "")
    except ssl.SSLError as error:
        raise ConfigurationError(Fault(place, f"certificate or key cannot be used: {error.reason}")) from None
    except OSError as error:
        raise ConfigurationError(
            Fault(place, f"certificate or key cannot be read: {error.strerror}")
        ) from None


def control_context(settings: Settings) -> ssl.SSLContext | None:
    """The control plane's side of TLS; None where it speaks plain HTTP.

    Raises:
        ConfigurationError: a certificate that does not load.
    """
    if settings.control.tls.cert_file is None:
        return None
    context = server_context()
    show_control_certificate(context, settings)
    return context


def show_control_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    """Take the certificate that the files hold by now.

    Raises:
        ConfigurationError: it does not load; the context may be without a key then.
    """
    chain, key = settings.control.tls.cert_file, settings.control.tls.key_file
    if chain is not None and key is not None:
        load_certificate(context, chain, key, place="control.tls.cert_file")


async def keep(
    renew: asyncio.Event,
    every_s: float,
    *,
    prove: Callable[[], Awaitable[object]],
    show: Callable[[], None],
) -> None:
    """Take a newer certificate after each reload and every so many seconds, until cancelled.

    Args:
        renew: set by a reload.
        every_s: seconds after which to look all the same.
        prove: loads it beside, as a bad one would leave the context without its key.
        show: takes it, on the loop, which begins the handshakes.
    """
    while True:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(renew.wait(), every_s)
        renew.clear()
        try:
            await prove()
            show()
        except (ConfigurationError, StateError) as error:
            log.event("certificate_kept", level="warning", reason=str(error))
