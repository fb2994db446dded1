"""Who asks: a key of kind ``service`` is the app's service token; and which accounts it may have.

An access token opens whatever its scopes allow, so a permit for some methods or paths, to read only or to
observe gives none: only one for a whole service, or for all of one of its connections.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from aiohttp import hdrs, web

from proxy.connectors.audit import KEY_ACTOR
from proxy.errors import AmbiguousKey, InvalidKey, NotPermitted, RateLimited
from proxy.forwarding.keys import NO_KEY, Grant, KeyRing
from proxy.forwarding.permits import Permit
from proxy.keys import KeyRecord, Keys

REVEALS_A_SECOND = 10.0
REVEALS_AT_ONCE = 100.0
_KEYS_WATCHED = 10_000
_BEARER = re.compile(r"[Bb]earer +([!-~]+)", re.ASCII)
_WORKSPACE = "b44k_"  # the command line takes only keys that begin so


def presented(request: web.Request) -> bytes:
    """The key of a request: ``Authorization: Bearer KEY``, or ``api_key: b44k_KEY`` of the command line.

    Raises:
        InvalidKey: there is none, or something else.
        AmbiguousKey: two different ones.
    """
    found: set[str] = set()
    for value in request.headers.getall(hdrs.AUTHORIZATION, []):
        bearer = _BEARER.fullmatch(value)
        found.add("" if bearer is None else bearer.group(1))
    for value in request.headers.getall("api_key", []):
        found.add(value.removeprefix(_WORKSPACE) if value.startswith(_WORKSPACE) else "")
    if len(found) > 1:
        raise AmbiguousKey("two different credentials: send one service key")
    key = next(iter(found), "")
    if not key:
        raise InvalidKey(NO_KEY)
    return key.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Asker:
    """Somebody with a good service key. ``key`` is what was shown, ``peer`` the address it came from."""

    grant: Grant
    key: bytes
    peer: str

    def __repr__(self) -> str:
        return f"<Asker {self.key_id}>"  # the key stays out of logs and tracebacks

    @property
    def key_id(self) -> str:
        """Names the key; no secret."""
        return self.grant.record.key_id

    @property
    def actor(self) -> str:
        """Whom the audit names."""
        return f"{KEY_ACTOR}{self.key_id}"

    def connection_of(self, service: str) -> str | None:
        """The one connection of a service that the key is for; None: the service's default one.

        Base44's calls name no connection: there is one for each connector of an app (R172).
        """
        names = {permit.connection for permit in self._of(service)}
        return names.pop() if len(names) == 1 else None

    def reaches(self, service: str) -> bool:
        """True when some permit is about the service at all."""
        return bool(self._of(service))

    def check_whole(self, service: str, connection: str | None) -> None:
        """Refuse a key that may not have everything of a service's connection.

        Args:
            service: type id.
            connection: its name; None while it is not known: refuses what no connection would permit.

        Raises:
            NotPermitted: it has no permit for all of it.
        """
        if not any(
            permit.methods is None
            and permit.path is None
            and not permit.marked
            and (connection is None or permit.connection in {None, connection})
            for permit in self._of(service)
        ):
            raise NotPermitted(
                f"the key has no permit for all of {service}: a token is more than some methods or paths",
                service=service,
            )

    def _of(self, service: str) -> tuple[Permit, ...]:
        return tuple(one for one in self.grant.permits.permits if one.service in {service, "*"})


class ServiceKeys:
    """The keys in force, arranged to be looked up: anew only when they have changed.

    Args:
        keys: all keys that there are now; the same object while none has changed.
        clock: seconds since the epoch.
    """

    def __init__(self, keys: Callable[[], Keys], clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._clock = clock
        self._known: Keys | None = None
        self._ring = self._proxies = KeyRing({})

    def asker(self, request: web.Request) -> Asker:
        """Who makes a request.

        Raises:
            InvalidKey, AmbiguousKey: nobody that may, always with the same words (R84).
        """
        key = presented(request)
        peer = request.remote or ""
        grant = self.ring().authenticate(key, now=self._clock(), peer_ip=peer or None, kind="service")
        return Asker(grant, key, peer)

    def ring(self) -> KeyRing:
        """The keys of kind ``service``."""
        keys = self._keys()
        if keys is not self._known:
            found = of_services(keys)
            self._ring = KeyRing(found)
            self._proxies = KeyRing({one: replace(record, kind="proxy") for one, record in found.items()})
            self._known = keys
        return self._ring

    def on_data_path(self) -> KeyRing:
        """The same keys, as a data path of their own takes them; the same object while none has changed."""
        self.ring()
        return self._proxies


def of_services(keys: Keys) -> dict[str, KeyRecord]:
    """Those of kind ``service``."""
    return {key_id: record for key_id, record in keys.items() if record.kind == "service"}


class Allowance:
    """How many tokens a key may be given: so many at once, and so many a second over time (R64).

    Programs ask for a connection with each of their requests, and each answer is a row of the audit.

    Args:
        a_second: over time; at_once: after a while without any.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        a_second: float = REVEALS_A_SECOND,
        at_once: float = REVEALS_AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._a_second = a_second
        self._at_once = at_once
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key_id: str) -> None:
        """Count one.

        Raises:
            RateLimited: with the seconds until the next one.
        """
        now = self._clock()
        left, since = self._left.pop(key_id, (self._at_once, now))
        left = min(self._at_once, left + (now - since) * self._a_second)
        self._left[key_id] = (max(left - 1.0, 0.0) if left >= 1.0 else left, now)
        if len(self._left) > _KEYS_WATCHED:
            self._left.popitem(last=False)
        if left < 1.0:
            raise RateLimited(
                "too many connections were asked for with this key: keep what getConnection gave for a while",
                retry_after=(1.0 - left) / self._a_second,
            )
