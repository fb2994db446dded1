"""What a key may call by its permits, compiled once per key (design §4; R73, R85, R90).

Judged on the method that the service will act on and on the very path that is sent; a path whose decoded form
gives another verdict is refused. What makes, changes or revokes credentials is refused for every key.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from proxy.catalog.model import Service
from proxy.catalog.patterns import decode_once
from proxy.errors import AmbiguousTarget, CredentialPath, NotPermitted
from proxy.forwarding.headers import Memo
from proxy.forwarding.permits.grammar import WEBSOCKET, Permit

_Call = tuple[str, str | None, str, bytes]
_VERDICTS = 256
_PATH_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Decider:
    """The permits of one key, arranged by service.

    Verdicts follow from them alone, so the last ones are kept. Those of ``marked`` permits do not: ``marked``
    says that there are some, and then ``marked.judge`` has to be asked instead.
    """

    permits: tuple[Permit, ...]
    marked: bool = field(init=False, compare=False)
    _whole: frozenset[str] = field(init=False, repr=False, compare=False)
    _by_service: Mapping[str, tuple[Permit, ...]] = field(init=False, repr=False, compare=False)
    _for_any: tuple[Permit, ...] = field(init=False, repr=False, compare=False)
    _verdicts: dict[_Call, bool] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        by_service: dict[str, list[Permit]] = {}
        whole: set[str] = set()
        for permit in self.permits:
            if str(permit) == permit.service:
                whole.add(permit.service)
            by_service.setdefault(permit.service, []).append(permit)
        for_any = tuple(by_service.pop("*", ()))
        object.__setattr__(self, "_whole", frozenset(whole))
        object.__setattr__(self, "_for_any", for_any)
        merged = {name: (*some, *for_any) for name, some in by_service.items()}
        object.__setattr__(self, "_by_service", merged)
        object.__setattr__(self, "marked", any(permit.marked for permit in self.permits))

    def reaches(self, service: str) -> bool:
        """True when some permit is about the service at all."""
        return bool(self.of(service))

    def names_connections(self, service: str) -> bool:
        """True when the verdict can depend on the connection, so that its name must be resolved first."""
        return any(permit.connection is not None for permit in self.of(service))

    def could_allow(self, service: str, method: str, path: bytes) -> bool:
        """True when the call is allowed with at least one connection."""
        names = {permit.connection for permit in self.of(service)}
        return any(self.allows(service, name, method, path) for name in names)

    def allows(self, service: str, connection: str | None, method: str, path: bytes) -> bool:
        """The verdict for one call.

        Args:
            service: type id.
            connection: the name of the one that is used, None while it is not known.
            method: the effective one.
            path: the upstream path, raw, without query.

        Raises:
            AmbiguousTarget: the decoded path has another verdict than the raw one (R73).
        """
        if service in self._whole or "*" in self._whole:
            return True
        call = (service, connection, method, path)
        verdict = self._verdicts.get(call)
        if verdict is None:
            verdict = self._judge(*call)
            if len(path) <= _PATH_REMEMBERED:
                if len(self._verdicts) >= _VERDICTS:
                    self._verdicts.clear()
                self._verdicts[call] = verdict
        return verdict

    def _judge(self, service: str, connection: str | None, method: str, path: bytes) -> bool:
        permits = self.of(service)
        return cover((one for one in permits if not one.marked), service, connection, method, path)

    def of(self, service: str) -> tuple[Permit, ...]:
        """The permits that are about the service."""
        return self._by_service.get(service, self._for_any)


def cover(permits: Iterable[Permit], service: str, connection: str | None, method: str, path: bytes) -> bool:
    """True when one of the permits is for such a connection, method and path, whatever its words say.

    Raises:
        AmbiguousTarget: see :meth:`Decider.allows`.
    """
    about = [
        permit
        for permit in permits
        if (permit.connection is None or permit.connection == connection)
        and (permit.methods is None or method in permit.methods)
    ]
    if any(permit.path is None for permit in about):
        return True
    verdict = _fits(about, path)
    if b"%" in path and _fits(about, decode_once(path)) is not verdict:
        raise AmbiguousTarget("raw and decoded, the path has different permits", service=service)
    return verdict


def _fits(permits: Iterable[Permit], path: bytes) -> bool:
    return any(permit.path is not None and permit.path.matches(path) for permit in permits)


def compile_permits(permits: Iterable[Permit]) -> Decider:
    """All permits of one key as one decider; none at all permits nothing."""
    return Decider(tuple(permits))


_CLOSED: dict[str, tuple[Service, Memo[str]]] = {}


def _closed(service: Service) -> Memo[str]:
    """For an upstream path of the service: why it is closed to every key, or nothing."""
    known = _CLOSED.get(service.type_id)
    if known is None or known[0] is not service:
        known = (service, Memo(lambda path: _why_closed(service, path), longest=_PATH_REMEMBERED, most=512))
        _CLOSED[service.type_id] = known
    return known[1]


def _why_closed(service: Service, path: bytes) -> str:
    if service.credential_paths.matches(path):
        return "this path makes, changes or revokes credentials: it is closed to every key"
    if service.batch_paths.matches(path):
        return (
            "this path takes requests inside of a request that are not judged one by one: send each by itself"
        )
    return ""


def check(decider: Decider, service: Service, connection: str | None, method: str, path: bytes) -> None:
    """Refuse what the key must not call.

    Raises:
        CredentialPath: for no key at all. NotPermitted: not for this one. AmbiguousTarget: as in ``allows``.
    """
    check_open(service, path)
    if not decider.allows(service.type_id, connection, method, path):
        raise NotPermitted(no_permit(method), service=service.type_id)


def check_with_any(decider: Decider, service: Service, method: str, path: bytes) -> None:
    """Refuse what the key must not call whichever connection it were: before one is looked for.

    Raises:
        CredentialPath, NotPermitted, AmbiguousTarget: as :func:`check`.
    """
    check_open(service, path)
    if not decider.could_allow(service.type_id, method, path):
        raise NotPermitted(no_permit(method), service=service.type_id)


def no_permit(method: str) -> str:
    """What is said of a call with that method which no permit is for."""
    if method == WEBSOCKET:
        return "the key has no permit for this WebSocket: it takes one for all methods, or for WEBSOCKET"
    return "the key has no permit for this call"


def check_open(service: Service, path: bytes) -> None:
    """Refuse what is closed to every key.

    Raises:
        CredentialPath: it is.
    """
    closed = _closed(service)[path]
    if closed:
        raise CredentialPath(closed, service=service.type_id)
