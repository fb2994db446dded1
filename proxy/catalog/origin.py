"""Upstream origins: built from parts, re-parsed, compared (R75-R77, R80)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from yarl import URL

from proxy.errors import ConnectionConfigMissing, CredentialInvalid

PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_HOST = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII
)
DEFAULT_PORTS = {"https": 443, "http": 80}


class Origin(NamedTuple):
    """Where a request is sent: scheme, host (lower case, no trailing dot), port.

    A named tuple, because the data path looks things up by it.
    """

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The ``Host`` header's value: the port only when it is not the scheme's own (RFC 9110 §7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def parse_origin(text: str) -> Origin:
    """An origin from its text; nothing but scheme, host and port may be there.

    Raises:
        ValueError: anything else, or a text that two parsers could read differently.
    """
    if not text.isascii() or any(c <= " " or c in "@#?\\%" for c in text):
        raise ValueError(f"not an origin: {text!r}")
    url = URL(text, encoded=True)
    if url.scheme not in DEFAULT_PORTS or not url.raw_host or url.raw_path not in {"", "/"}:
        raise ValueError(f"an origin is 'https://host' or 'https://host:port', not {text!r}")
    port = url.port
    if port is None or not 0 < port < 65536:  # noqa: PLR2004  # TCP's range
        raise ValueError(f"the port of {text!r} is not one")
    host = url.raw_host.lower()
    if _HOST.fullmatch(host) is None and ":" not in host:
        raise ValueError(f"the host of {text!r} is not a DNS name or address")
    rebuilt = URL.build(scheme=url.scheme, host=host, port=port)
    if rebuilt.raw_host != host or str(rebuilt.origin()) != str(url.with_host(host).origin()):
        raise ValueError(f"{text!r} reads differently when built again")
    return Origin(url.scheme, host, port)


def host_under(host: str, suffix: str) -> bool:
    """True when ``host`` lies under ``suffix`` by whole labels (never the bare suffix itself)."""
    return host.endswith("." + suffix) and len(host) > len(suffix) + 1


@dataclass(frozen=True, slots=True)
class OriginTemplate:
    """An origin with ``{param}`` places filled from ``connection_config``.

    A param fills whole host labels (a fixed part inside the label is allowed: ``{tenant}-my``), or,
    with ``suffixes``, the whole host (``https://{host}``) or the whole origin (``{instance_url}``).
    ``defaults`` (param, value) stand in where the connection says nothing.
    """

    text: str
    suffixes: tuple[str, ...] = ()
    defaults: tuple[tuple[str, str], ...] = ()

    @property
    def params(self) -> tuple[str, ...]:
        """Names of the params in the template, in order."""
        return tuple(PLACEHOLDER.findall(self.text))

    @property
    def is_fixed(self) -> bool:
        """True when no connection is needed to know the origin."""
        return "{" not in self.text

    def build(self, config: Mapping[str, str], *, service: str) -> Origin:
        """The origin for one connection.

        Raises:
            ConnectionConfigMissing: a param has no value.
            CredentialInvalid: a value would lead elsewhere than the template allows.
        """
        values = dict(self.defaults) | {name: value for name, value in config.items() if value}
        missing = [name for name in self.params if name not in values]
        if missing:
            raise ConnectionConfigMissing(
                f"the connection lacks {', '.join(missing)} in its connection_config", service=service
            )
        try:
            # Before lower(): U+212A and its like would become plain letters.
            if not all(values[name].isascii() for name in self.params):
                raise ValueError("not ASCII")  # noqa: TRY301  # same answer as for every other unfit value
            text = PLACEHOLDER.sub(lambda hit: values[hit.group(1)].lower(), self.text)
            origin = parse_origin(text)
        except ValueError as error:
            raise CredentialInvalid(
                "the connection's connection_config does not make a valid address", service=service
            ) from error
        if not self.admits(origin):
            raise CredentialInvalid(
                "the connection's connection_config leads to a host outside the service", service=service
            )
        return origin

    def admits(self, origin: Origin) -> bool:
        """True when ``origin`` is one that this template can produce."""
        if self.is_fixed:
            return origin == parse_origin(self.text)
        if self.suffixes:
            return (
                origin.scheme == "https"
                and origin.port == DEFAULT_PORTS["https"]
                and any(host_under(origin.host, suffix) for suffix in self.suffixes)
            )
        scheme, _, authority = self.text.partition("://")
        host, _, port = authority.rstrip("/").partition(":")
        expected = re.compile(
            PLACEHOLDER.sub(f"(?:{_LABEL.pattern})", re.escape(host).replace(r"\{", "{").replace(r"\}", "}"))
        )
        return (
            origin.scheme == scheme
            and expected.fullmatch(origin.host) is not None
            and origin.port == (int(port) if port else DEFAULT_PORTS[scheme])
        )
