"""The address of a PostgreSQL database: what of it may be told, and how far its server is verified.

The form is libpq's (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS).
"""

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from proxy.errors import ConfigurationError, Fault
from proxy.secret import Secret

PLACE = "storage.database_url"
_SCHEMES = frozenset({"postgresql", "postgres"})
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SYSTEM_ROOTS = "system"


def _fault(message: str) -> ConfigurationError:
    return ConfigurationError(Fault(PLACE, message))


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """A checked address.

    Args:
        url: the whole of it, with its password.
        shown: database and hosts, for messages: neither user nor password nor parameters.
        tls: the context to connect with; a mode's name leaves it to the driver, None too: this host.
        application: what the server's statistics call us, where the address does not say.
    """

    url: Secret
    shown: str
    tls: ssl.SSLContext | str | None
    application: str | None

    @classmethod
    def parse(cls, url: Secret) -> Self:
        """Check an address; it is not connected to.

        A server elsewhere is verified, name and certificate, unless ``sslmode`` says less: the driver's own
        default would fall back to plain text.

        Raises:
            ConfigurationError: what is wrong with it, without repeating it.
        """
        parts, params = _split(url.reveal())
        hosts = _hosts(parts, params)
        database = unquote(parts.path.removeprefix("/")) or params.get("dbname") or params.get("database", "")
        shown = f"PostgreSQL database {database or '(of the user)'} on {', '.join(hosts) or 'this host'}"
        application = None if "application_name" in params else "connector-proxy"
        mode = params.get("sslmode")
        if mode is not None and mode not in _MODES:
            raise _fault(f"sslmode must be one of {', '.join(_MODES)}")
        if mode is None and all(_is_local(host) for host in hosts):
            return cls(url, shown, None, application)
        return cls(url, shown, _tls(mode or "verify-full", params), application)


def _split(url: str) -> tuple[SplitResult, Mapping[str, str]]:
    try:
        parts = urlsplit(url)
        given = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        raise _fault("is no URL such as postgresql://user:password@host:5432/database") from None
    if parts.scheme not in _SCHEMES:
        raise _fault("must begin with postgresql://")
    if parts.netloc.count("@") > 1:
        raise _fault("an @ in the user or password is written as %40")
    if parts.fragment:
        raise _fault("a # in the password is written as %23")
    return parts, {name: values[-1] for name, values in given.items()}


def _hosts(parts: SplitResult, params: Mapping[str, str]) -> tuple[str, ...]:
    """``host[:port]`` or the folder of a socket, each; none: the driver's choice, which is this host."""
    listed = params.get("host") or unquote(parts.netloc.rpartition("@")[2])
    hosts = tuple(host for host in listed.split(",") if host)
    for host in hosts:
        port = "" if host.startswith("/") else host.rpartition("]")[2].partition(":")[2]
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
            raise _fault("a host's port must be a number from 1 to 65535")
    return hosts


def _is_local(host: str) -> bool:
    if host.startswith("/"):
        return True
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _tls(mode: str, params: Mapping[str, str]) -> ssl.SSLContext | str:
    roots = params.get("sslrootcert")
    if mode != "verify-full" or (roots and roots != _SYSTEM_ROOTS):
        return mode
    context = ssl.create_default_context()  # the driver would insist on ~/.postgresql/root.crt
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["postgresql"])
    certificate = params.get("sslcert")
    if certificate:
        try:
            context.load_cert_chain(certificate, params.get("sslkey"), lambda: params.get("sslpassword", ""))
        except (OSError, ssl.SSLError):
            raise _fault("the certificate and key of sslcert and sslkey cannot be used") from None
    return context
