"""Kinds of values: how a raw TOML, JSON or command line value becomes a typed one, and what it is called.

A decoder gets the raw value and the folder that relative paths count from; it raises ``ValueError`` with one
sentence that says what would be right. It never repeats a value that may be a secret.
"""

import ipaddress
import json
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import urlsplit

from proxy.catalog.origin import parse_origin
from proxy.errors import ConfigurationError, Fault
from proxy.forwarding.addresses import (
    MAX_PORT,
    Dial,
    Network,
    hostport,
    normalize_host,
    parse_address,
    parse_hostport,
)
from proxy.forwarding.tunnel import EgressProxy
from proxy.keys import parse_network, parse_rate
from proxy.secret import Secret

T = TypeVar("T")
_COMMAND_TIMEOUT_S = 30
_DIGEST_PREFIX = "sha256:"
_DIGEST = re.compile(rf"{_DIGEST_PREFIX}([0-9a-f]{{64}})", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A kind of value. ``in_variable`` is what the text of an environment variable is.

    json: JSON, or text where it is none; text: the value itself; secret: the secret itself.
    """

    name: str
    decode: Callable[[object, Path], T]
    in_variable: Literal["json", "text", "secret"] = "json"

    def from_variable(self, variable: str, text: str) -> object:
        """The raw value that an environment variable gives; a secret stays there until it is needed."""
        if self.in_variable == "text":
            return text
        if self.in_variable == "secret" and not text.startswith(("{", _DIGEST_PREFIX)):
            return {"env": variable}
        try:
            return json.loads(text)
        except ValueError:
            return text


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen: ``host`` and ``port`` (0: the system chooses), or ``path``, a unix socket."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return hostport(self.host, self.port)


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where a secret is read from, when it is needed: exactly one of the three."""

    env: str | None = None
    file: Path | None = None
    command: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if sum(way is not None for way in (self.env, self.file, self.command)) != 1:
            raise ValueError("a secret comes from exactly one of env, file, command")

    def __str__(self) -> str:
        if self.env is not None:
            return f"environment variable {self.env}"
        return f"file {self.file}" if self.file is not None else f"command {(self.command or ('',))[0]}"

    def read(self, environ: Mapping[str, str], *, place: str) -> Secret:
        """The secret; a line end behind it is cut off. A command has 30 s, gets no input, and needs no shell.

        Raises:
            ConfigurationError: it is not there or empty; ``place`` is the setting's name.
        """
        try:
            text = self._read(environ).removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise ConfigurationError(Fault(place, f"{self} does not give text in UTF-8")) from None
        except OSError as error:
            raise ConfigurationError(
                Fault(place, f"{self}: {error.strerror or type(error).__name__}")
            ) from None
        except subprocess.TimeoutExpired:
            raise ConfigurationError(Fault(place, f"{self} took over {_COMMAND_TIMEOUT_S} s")) from None
        except subprocess.CalledProcessError as error:
            raise ConfigurationError(Fault(place, f"{self} ended with status {error.returncode}")) from None
        if not text:
            raise ConfigurationError(Fault(place, f"{self} is not set or empty"))
        return Secret(text)

    def _read(self, environ: Mapping[str, str]) -> str:
        if self.env is not None:
            return environ.get(self.env, "")
        if self.file is not None:
            return self.file.read_text(encoding="utf-8")
        done = subprocess.run(  # noqa: S603  # the operator's own command, as a list, without a shell
            self.command or (),
            check=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_COMMAND_TIMEOUT_S,
        )
        return done.stdout.decode()


def _text(raw: object, _: Path) -> str:
    if not isinstance(raw, str) or not raw or not raw.isprintable():
        raise ValueError("must be a text without control characters, not empty")
    return raw


def _flag(raw: object, _: Path) -> bool:
    if raw is True or raw is False:
        return raw is True
    raise ValueError("must be true or false")


def integer(name: str = "integer", *, least: int = 0) -> Kind[int]:
    """Whole numbers from ``least``."""

    def decode(raw: object, _: Path) -> int:
        if not isinstance(raw, int) or isinstance(raw, bool) or raw < least:
            raise ValueError(f"must be a whole number, {least} or more")
        return raw

    return Kind(name, decode)


def _seconds(raw: object, _: Path) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 <= raw < float("inf"):
        raise ValueError("must be a number of seconds, 0 or more")
    return float(raw)


def _path(raw: object, base: Path) -> Path:
    if isinstance(raw, Path):
        return base / raw
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise ValueError("must be a path")
    return base / Path(raw).expanduser()


def choice(*values: str) -> Kind[Any]:
    """One of a few words."""

    def decode(raw: object, _: Path) -> str:
        if raw not in values:
            raise ValueError(f"must be one of {', '.join(values)}")
        return str(raw)

    return Kind(" | ".join(values), decode, "text")


def listing(item: Kind[T], name: str) -> Kind[tuple[T, ...]]:
    """A list; a single value stands for a list of one."""

    def decode(raw: object, base: Path) -> tuple[T, ...]:
        values = raw if isinstance(raw, list | tuple) else [raw]
        return tuple(item.decode(value, base) for value in values)

    return Kind(name, decode)


def table(key: Callable[[str], str], value: Kind[T], name: str) -> Kind[Mapping[str, T]]:
    """A table with free keys; ``key`` checks and normalizes one."""

    def decode(raw: object, base: Path) -> Mapping[str, T]:
        if not isinstance(raw, Mapping):
            raise ValueError("must be a table")  # noqa: TRY004  # every decoder raises ValueError
        return MappingProxyType({key(str(k)): value.decode(v, base) for k, v in raw.items()})

    return Kind(name, decode)


def _listen(raw: object, base: Path) -> Listen:
    if isinstance(raw, Listen):
        return raw
    if not isinstance(raw, str) or not raw:
        raise ValueError('must be "host:port" or "unix:/path"')
    if raw.startswith("unix:"):
        return Listen(path=base / Path(raw.removeprefix("unix:")).expanduser())
    head, colon, port = raw.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > MAX_PORT:
        raise ValueError(f'{raw!r} is not "host:port" (port 0 to {MAX_PORT}) or "unix:/path"')
    bracketed = head.startswith("[") and head.endswith("]")
    host = normalize_host(head[1:-1] if bracketed else head) if bracketed or ":" not in head else ""
    if not host or bracketed != (":" in host):
        raise ValueError(f'{raw!r} is not "host:port" (an IPv6 address stands in brackets)')
    return Listen(host, int(port))


def _host(raw: object, base: Path) -> str:
    return normalize_host(_text(raw, base))


def _host_pattern(raw: object, base: Path) -> str:
    text = _text(raw, base)
    return f"*.{normalize_host(text[2:])}" if text.startswith("*.") else normalize_host(text)


def _url(raw: object, base: Path) -> str:
    """An origin as text, without a slash at its end and without the scheme's own port."""
    text = _text(raw, base)
    try:
        return str(parse_origin(text.lower()))
    except ValueError:
        raise ValueError("must be http://host[:port] or https://host[:port] and nothing more") from None


def _egress_proxy(raw: object, base: Path) -> EgressProxy:
    return EgressProxy.parse(_text(raw, base))


def _address(raw: object, base: Path) -> str:
    """A whole URL as text. The host's spelling is checked; path and query stay as they are."""
    text = _text(raw, base)
    parts = urlsplit(text)
    try:
        parse_origin(f"{parts.scheme}://{parts.netloc}".lower())
    except ValueError:
        raise ValueError("must be http://host[:port]/path or https://host[:port]/path") from None
    if parts.fragment or not text.isascii() or any(letter.isspace() for letter in text):
        raise ValueError("must be a URL without fragment, spaces and letters that need encoding")
    return text


def _network(raw: object, base: Path) -> Network:
    text = _text(raw, base)
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an address or network such as 10.1.0.0/16") from None


def _parsed(parse: Callable[[str], T]) -> Callable[[object, Path], T]:
    return lambda raw, base: parse(_text(raw, base))


def _dial(raw: object, base: Path) -> Dial:
    host, port = parse_hostport(_text(raw, base))
    if parse_address(host) is None:
        raise ValueError(f"{raw!r} must be an address and a port, such as 127.0.0.1:9443")
    return Dial(host, port)


def hostport_key(text: str) -> str:
    """``host:port`` in its one spelling; brackets around IPv6."""
    return hostport(*parse_hostport(text))


def _secret_source(raw: object, base: Path) -> SecretSource:
    if isinstance(raw, SecretSource):
        return raw
    if not isinstance(raw, Mapping) or set(raw) - {"env", "file", "command"} or len(raw) != 1:
        raise ValueError(
            'must be exactly one of { env = "NAME" }, { file = "PATH" }, { command = ["PROGRAM"] }'
        )
    (way, value), *_ = raw.items()
    if way == "env":
        if not isinstance(value, str) or _VARIABLE.fullmatch(value) is None:
            raise ValueError("env must name an environment variable")
        return SecretSource(env=value)
    if way == "file":
        return SecretSource(file=_path(value, base))
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        raise ValueError("command must be a list of texts: program and arguments")
    return SecretSource(command=tuple(value))


def _secret(raw: object, base: Path) -> Secret | SecretSource:
    if isinstance(raw, Secret):
        return raw
    return Secret(raw) if isinstance(raw, str) and raw else _secret_source(raw, base)


def _key_hash(raw: object, base: Path) -> bytes | SecretSource:
    if isinstance(raw, Mapping):
        return _secret_source(raw, base)
    found = _DIGEST.fullmatch(raw) if isinstance(raw, str) else None
    if found is None:
        raise ValueError('must be "sha256:" and 64 hex digits, or { env = "NAME" } that holds the whole key')
    return bytes.fromhex(found.group(1))


TEXT = Kind("text", _text, "text")
FLAG = Kind("boolean", _flag)
BYTES = integer()
SECONDS = Kind("number", _seconds)
PATH = Kind("path", _path, "text")
URL_ORIGIN = Kind("URL", _url, "text")
URL_ADDRESS = Kind("URL", _address, "text")
EGRESS_PROXY = Kind("URL", _egress_proxy, "text")
LISTEN = Kind("host:port", _listen, "text")
LISTENS = listing(LISTEN, "list of host:port or unix:/path")
URL_ORIGINS = listing(URL_ORIGIN, "list of URLs")
TEXTS = listing(TEXT, "list of texts")
HOSTS = listing(Kind("host", _host), "list of hosts")
HOST_PATTERNS = listing(Kind("host", _host_pattern), "list of hosts, or `*.suffix`")
NETWORKS = listing(Kind("network", _network), "list of networks")
KEY_NETWORKS = listing(Kind("network or unix", _parsed(parse_network)), "list of networks, or unix")
RATE = Kind("rate such as 10/s", _parsed(parse_rate), "text")
CONNECT_TO = table(hostport_key, Kind("ip:port", _dial), "table: host:port = ip:port")
CONFIG = table(str, TEXT, "table of texts")
SECRET_SOURCE = Kind("env, file or command", _secret_source, "secret")
SECRET = Kind("text, env, file or command", _secret, "secret")
KEY_HASH = Kind("sha256:HEX, env, file or command", _key_hash, "secret")
