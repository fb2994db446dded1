"""A server's admin API, driven from here: the same operations, documents and errors as on a vault."""

import asyncio
import json
import ssl
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from yarl import URL

from proxy import __version__
from proxy.admintokens import token_id_of
from proxy.cli.operator import Operator
from proxy.errors import (
    ConfigurationError,
    ConflictError,
    ConnectorProxyError,
    Fault,
    ForbiddenError,
    MissingError,
    StateError,
)
from proxy.operations.operation import Asked, Document, Operation
from proxy.secret import Secret
from proxy.settings import environment

VARIABLE = "CONNECTOR_PROXY_ADMIN_TOKEN"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ROOT = "/api/v1"
UNIX = "unix:"
BY_SOCKET = URL("http://localhost")  # a name that every control plane answers to
_TIMES = aiohttp.ClientTimeout(total=150.0, sock_connect=10.0)
_TURNS = 4  # of the loop, in which a TLS connection that was cut is gone
_MAX_ANSWER, _MAX_TOKEN = 16_777_216, 4096
_TRIES = 2
_FLAGS: Mapping[bool, str] = {True: "true", False: "false"}
_KINDS: Mapping[int, type[ConfigurationError]] = {
    403: ForbiddenError,
    404: MissingError,
    409: ConflictError,
}
_OF_THE_DATA_PLANE = frozenset({"invalid_key", "unknown_service"})
_OK, _UNAUTHORIZED, _SERVER_FAULT = (200, 201), (401, 403), 500


class RemoteError(ConnectorProxyError):
    """The server could not be asked, or failed."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A server, as the options name it.

    ``ca``: its authority's certificate, PEM; None: the system's. ``socket``: of its control plane, where
    ``url`` only says what it is called by.
    """

    url: URL
    token: Secret
    ca: str | None = field(default=None, repr=False)
    socket: Path | None = None

    @classmethod
    def of(cls, url: str, token_file: Path | None, ca_file: Path | None) -> Self:
        """What the options come to.

        Raises:
            ConfigurationError: no address of a control plane, no token, or files that cannot be used.
        """
        ca = None if ca_file is None else _text_of(ca_file, "--ca-file", 1_048_576)
        if url.startswith(UNIX):
            return cls(BY_SOCKET, _token(token_file), ca, _socket(url.removeprefix(UNIX)))
        return cls(_origin(url), _token(token_file), ca)

    @property
    def shown(self) -> str:
        """As ``--url`` names it."""
        return str(self.url) if self.socket is None else f"{UNIX}{self.socket}"

    def connector(self) -> aiohttp.BaseConnector:
        """What connects to it.

        Raises:
            ConfigurationError: the authority's certificate is none.
        """
        if self.socket is not None:
            return aiohttp.UnixConnector(str(self.socket))
        return aiohttp.TCPConnector(ssl=self.context())

    def context(self) -> ssl.SSLContext:
        """How its certificate is checked.

        Raises:
            ConfigurationError: the authority's certificate is none.
        """
        try:
            return ssl.create_default_context(cadata=self.ca)
        except ssl.SSLError:
            raise ConfigurationError(Fault("--ca-file", "holds no certificate (PEM)")) from None


def _origin(text: str) -> URL:
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    plain = url.scheme == "http" and url.host in _LOOPBACK
    if not url.host or not (plain or url.scheme == "https"):
        raise ConfigurationError(
            Fault(
                "--url",
                "is https://HOST[:PORT] or unix:/PATH; http:// only to this machine: it shows the token",
            )
        )
    if url.user or url.password or url.path not in {"", "/"} or url.query_string or url.fragment:
        raise ConfigurationError(Fault("--url", "is the control plane's scheme, host and port, nothing else"))
    return url.origin()


def _socket(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or "\0" in text:
        raise ConfigurationError(Fault("--url", "names a socket by its whole path: unix:/PATH"))
    return path


def _token(file: Path | None) -> Secret:
    given = environment().get(VARIABLE) if file is None else _text_of(file, "--token-file", _MAX_TOKEN)
    place = VARIABLE if file is None else "--token-file"
    if not given:
        raise ConfigurationError(
            Fault(
                "--url",
                f"needs an admin token ('connector-proxy tokens create'): set {VARIABLE} or --token-file",
            )
        )
    if token_id_of(given.strip()) is None:
        raise ConfigurationError(Fault(place, "holds no admin token: it begins with cpa_"))
    return Secret(given.strip())


def _text_of(file: Path, option: str, most: int) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(most).decode()
    except UnicodeDecodeError:
        raise ConfigurationError(Fault(option, "is not text in UTF-8")) from None
    except OSError as error:
        raise ConfigurationError(Fault(option, f"cannot be read: {error.strerror}")) from None


@asynccontextmanager
async def opened_session(
    remote: Remote, times: aiohttp.ClientTimeout
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session with it, of which nothing is left in the event loop afterwards."""
    try:
        async with aiohttp.ClientSession(connector=remote.connector(), timeout=times) as session:
            yield session
    finally:
        for _ in range(_TURNS):
            await asyncio.sleep(0)


@asynccontextmanager
async def opened_remote(remote: Remote) -> AsyncIterator["RemoteOperator"]:
    """A connection to it, for as long as something is to be done."""
    async with opened_session(remote, _TIMES) as session:
        yield RemoteOperator(remote, session)


@dataclass(frozen=True, slots=True)
class RemoteOperator(Operator):
    """Runs operations at a server."""

    remote: Remote
    session: aiohttp.ClientSession

    async def run(self, operation: Operation, asked: Asked) -> Document:
        """See Operator. What may be repeated is, once, when the connection breaks.

        Raises:
            ConfigurationError: what is wrong with what was asked, as a command on the vault would say it.
            StateError: the server does not take the token.
            RemoteError: the server could not be asked, or failed.
        """
        place = operation.path.format_map({part: quote(text, safe="@") for part, text in asked.path.items()})
        url = self.remote.url.join(URL(_ROOT + place, encoded=True)).with_query(
            {key: _FLAGS[value] if isinstance(value, bool) else value for key, value in asked.query.items()}
        )
        headers = {
            "Authorization": f"Bearer {self.remote.token.reveal()}",
            "User-Agent": f"connector-proxy/{__version__}",
        }
        body = None if operation.body is None else asked.body
        if operation.creates:
            headers["Idempotency-Key"] = f'"{uuid.uuid4()}"'
        repeats = operation.creates or operation.method != "POST"
        for left in range(_TRIES if repeats else 1, 0, -1):
            try:
                status, answer = await self._ask(operation.method, url, headers, body)
                break
            except (TimeoutError, aiohttp.ClientError) as error:
                if left == 1 or isinstance(error, aiohttp.ClientConnectorCertificateError):
                    raise RemoteError(unreached(self.remote.shown, error)) from None
        else:
            raise AssertionError("the last try ends or raises")
        return document_of(status, answer)

    async def _ask(
        self, method: str, url: URL, headers: Mapping[str, str], body: Mapping[str, Any] | None
    ) -> tuple[int, bytes]:
        data = None
        if body is not None:
            data, headers = json.dumps(body).encode(), {**headers, "Content-Type": "application/json"}
        async with self.session.request(
            method, url, headers=headers, data=data, allow_redirects=False
        ) as response:
            found = bytearray()
            async for chunk in response.content.iter_any():
                found += chunk
                if len(found) > _MAX_ANSWER:
                    cut(response)
                    raise RemoteError("the server's answer is too long to be one of a control plane")
            return response.status, bytes(found)


def cut(response: aiohttp.ClientResponse) -> None:
    """End an answer that is not read to its end: over TLS its connection would outlive the event loop."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


def unreached(url: str, error: Exception) -> str:
    """Why a server could not be asked, in one sentence."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", "") or "it cannot be verified"
        return f"{url}: the certificate is not trusted: {why} (--ca-file names its authority)"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{url}: cannot be reached: {error.strerror}"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{url}: what answers there does not speak HTTP"
    return f"{url}: the connection broke, or no answer came in time"


def document_of(status: int, answer: bytes) -> Document:
    """What an answer says.

    Raises:
        ConfigurationError, StateError, RemoteError: as it says.
    """
    try:
        found = json.loads(answer)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RemoteError(f"the server answered {status}, and no JSON: is --url its control plane?")
    if status in _OK:
        return found
    detail = str(found.get("detail", f"the server answered {status}"))
    faults = _faults(found.get("errors"))
    if faults and status < _SERVER_FAULT:
        raise _KINDS.get(status, ConfigurationError)(*faults)
    if found.get("code") in _OF_THE_DATA_PLANE:
        raise StateError("that is the data plane, where calls go: --url names the control plane")
    if status in _UNAUTHORIZED:
        raise StateError(f"the server refused the admin token: {detail}")
    if found.get("code") == "misdirected_request":
        raise StateError("the server is not called by this name: see control.allowed_hosts in its settings")
    raise RemoteError(f"the server answered {status}: {detail}")


def _faults(given: object) -> list[Fault]:
    if not isinstance(given, list):
        return []
    return [
        Fault(str(one.get("field", "")), str(one.get("message", "")))
        for one in given
        if isinstance(one, dict)
    ]
