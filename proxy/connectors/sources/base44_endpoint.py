"""The HTTP side of the Base44 source: addresses, one call, and what each answer means."""

from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from proxy.catalog.model import Service
from proxy.connectors.sources.answer import read_access_token, read_connection_config, read_object
from proxy.connectors.sources.cache import Fetched
from proxy.errors import ConfigurationError, CredentialInvalid, Fault, NotConnected, RefreshFailed
from proxy.secret import Secret

LIMIT_S = 10.0
MAX_BODY = 2**20
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_METERED = "metered_connector_requires_proxy"


def check_base(text: str) -> URL:
    """A Base44 address: https (http on loopback only), no user, query or fragment; maybe a path prefix.

    Raises:
        ConfigurationError: anything else.
    """
    fault = Fault("base44.url", "must be https://host[:port][/prefix]; http only for localhost")
    if not text.isascii() or any(c <= " " or c in "@?#\\%" for c in text):
        raise ConfigurationError(fault)
    try:
        url = URL(text, encoded=True)
    except ValueError:
        raise ConfigurationError(fault) from None
    is_plain = url.scheme == "http" and url.raw_host in _LOOPBACK
    if (
        not url.raw_host
        or not (url.scheme == "https" or is_plain)
        or {".", ".."} & set(url.raw_path.split("/"))
    ):
        raise ConfigurationError(fault)
    return url.with_host(url.raw_host.lower()).with_path(url.raw_path.rstrip("/"), encoded=True)


@dataclass(frozen=True, slots=True)
class Reply:
    """What of an answer counts: ``error`` is the header ``X-Base44-Connector-Error``."""

    status: int
    retry_after: str
    error: str
    body: bytes = field(repr=False)


class TokenEndpoint:
    """The HTTP side: one session a server, no cookies, no redirects, no proxy variables (R81, R82).

    ``make_connector`` lets the caller apply egress rules (pinned addresses, extra roots) to a server.
    """

    def __init__(self, make_connector: Callable[[str], aiohttp.BaseConnector] | None = None) -> None:
        self._make_connector = make_connector
        self._sessions: dict[URL, aiohttp.ClientSession] = {}

    def _open(self, base: URL) -> aiohttp.ClientSession:
        origin = base.origin()
        if origin not in self._sessions:
            make = self._make_connector
            self._sessions[origin] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=20) if make is None else make(str(origin)),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=LIMIT_S, connect=5.0),
                headers={"Accept": "application/json", "User-Agent": "connector-proxy"},
            )
        return self._sessions[origin]

    async def fetch(self, base: URL, app_id: str, token: Secret, service: Service) -> Reply:
        """One call.

        Raises:
            RefreshFailed: no whole answer within 10 s and 1 MiB.
        """
        path = f"{base.raw_path.rstrip('/')}/api/apps/{app_id}/external-auth/tokens/{service.type_id}"
        headers = {"Authorization": f"Bearer {token.reveal()}", "X-App-Id": app_id}
        try:
            async with self._open(base).get(
                base.with_path(path, encoded=True), headers=headers, allow_redirects=False
            ) as answer:
                body = await _bounded(answer.content)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _failed(service, f"could not be asked ({type(error).__name__})") from None
        if body is None:
            raise _failed(service, f"answered with more than {MAX_BODY} bytes")
        told = answer.headers
        return Reply(
            answer.status, told.get("Retry-After", ""), told.get("X-Base44-Connector-Error", ""), body
        )

    async def close(self) -> None:
        """Close the sessions."""
        while self._sessions:
            await self._sessions.popitem()[1].close()


async def _bounded(content: aiohttp.StreamReader) -> bytes | None:
    parts = bytearray()
    async for chunk in content.iter_chunked(65536):
        parts += chunk
        if len(parts) > MAX_BODY:
            return None
    return bytes(parts)


def _failed(service: Service, what: str, retry_after: float = 1.0) -> RefreshFailed:
    return RefreshFailed(
        f"Base44 {what} for the token of {service.title}", service=service.type_id, retry_after=retry_after
    )


def _seconds(retry_after: str) -> float:
    return min(float(retry_after), 60.0) if retry_after.isascii() and retry_after.isdigit() else 5.0


def interpret(service: Service, reply: Reply, ttl: float) -> Fetched:
    """What an answer means; 401 never comes here with a token that could be renewed."""
    known, status = service.type_id, reply.status
    if status == 200:  # noqa: PLR2004  # the only success
        try:
            answer = read_object(reply.body)
            token, config = read_access_token(answer), read_connection_config(answer)
        except ValueError as error:
            raise _failed(service, f"gave an answer that cannot be used ({error})") from None
        return Fetched(Secret(token), ttl=ttl, config=config)
    if status == 404:  # noqa: PLR2004  # "Connector connection not found"
        raise NotConnected(
            f"{service.title} is not connected in the Base44 app: connect it there", service=known
        )
    if status == 403 and reply.error == _METERED:  # noqa: PLR2004  # the contract's code for metered connectors
        raise CredentialInvalid(
            f"Base44 bills {service.title} per call and gives no token for it: use callApi there",
            service=known,
        )
    if status in {401, 403}:
        raise CredentialInvalid(
            f"Base44 refused the app's service token ({status}): give a current one for this app",
            service=known,
        )
    if 300 <= status < 400:  # noqa: PLR2004  # redirects would carry the service token elsewhere
        raise _failed(service, f"sent a redirect ({status}), which is not followed,")
    if status == 429:  # noqa: PLR2004  # too many requests
        raise _failed(service, "asked us to slow down (429)", _seconds(reply.retry_after))
    raise _failed(service, f"answered {status}", _seconds(reply.retry_after))
