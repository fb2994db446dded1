"""Resolve, check, dial: the only place where a name becomes addresses (R75-R82).

Every address is judged after resolution and the judged address itself is dialled, so a name that changes
between check and connect (DNS rebinding) gains nothing. Certificate name, SNI and ``Host`` stay the origin's.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from socket import EAI_NODATA, EAI_NONAME, gaierror

from proxy.catalog.origin import Origin, host_under
from proxy.errors import AddressRefused, UpstreamUnreachable
from proxy.forwarding.addresses import (
    Address,
    Dial,
    Network,
    Reason,
    classify,
    embedded,
    hostport,
    is_odd_ipv4,
    is_own_interface,
    parse_address,
)
from proxy.forwarding.known import ADDRESS_TTL_S, FAILURE_TTL_S, KEPT_S, RESOLVE_TIMEOUT_S, Lookup, Lookups
from proxy.forwarding.resolving import SystemResolver
from proxy.forwarding.tunnel import EgressProxy

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

_REFUSED = "the service's address must not be dialled"
_UNRESOLVED = "the service's name could not be resolved"


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """Where connections may go, as the operator decided.

    Args:
        connect_to: ``host:port`` of an origin (port always there) -> the address dialled instead; not judged.
        ca_file: PEM file of extra roots, trusted only for ``ca_hosts``.
        ca_hosts: exact hosts or ``*.suffix``; empty: the hosts of ``connect_to``.
        allow_addresses: networks admitted although they are private or special. A cloud's metadata address is
            admitted only when listed by itself.
        own: what this process listens on, as bound; ``0.0.0.0`` and ``::`` stand for every interface.
        proxy: connects to the services instead of us, by names that it resolves; then only origins that are
            literal addresses can be judged here. Those in ``connect_to`` and ``http`` ones are dialled
            directly.

    Raises:
        OSError, ssl.SSLError: from :meth:`Dialer` when ``ca_file`` cannot be read.
    """

    connect_to: Mapping[str, Dial] = field(default_factory=dict)
    ca_file: Path | None = None
    ca_hosts: tuple[str, ...] = ()
    allow_addresses: tuple[Network, ...] = ()
    own: tuple[Dial, ...] = ()
    proxy: EgressProxy | None = None

    def via(self, origin: Origin) -> EgressProxy | None:
        """The proxy through which an origin is reached; None: directly."""
        if origin.scheme != "https" or hostport(origin.host, origin.port) in self.connect_to:
            return None
        return self.proxy

    def denies(self, address: Address, port: int) -> Reason | None:
        """Why the address must not be dialled on that port, or None."""
        if self.is_own(address, port):
            return "self"
        reason = classify(address)
        if reason is None:
            return None
        if not self._lists(address, reason):
            return reason
        inner = embedded(address)
        inner_reason = None if inner is None else classify(inner)
        if inner is None or inner_reason is None or self._lists(inner, inner_reason):
            return None
        return inner_reason

    def _lists(self, address: Address, reason: Reason) -> bool:
        return any(
            address in network and (reason != "metadata" or network.num_addresses == 1)
            for network in self.allow_addresses
            if network.version == address.version
        )

    def is_own(self, address: Address, port: int) -> bool:
        """True when dialling there would reach this process again."""
        inner = embedded(address)
        for own in self.own:
            listening = parse_address(own.ip)
            if own.port != port or listening is None:
                continue
            if listening in {address, inner}:
                return True
            if listening.is_unspecified and is_own_interface(inner or address):
                return True
        return False

    def trusts_extra_roots(self, host: str) -> bool:
        """True when ``ca_file`` counts for this host."""
        if self.ca_file is None:
            return False
        hosts = self.ca_hosts or tuple(key.rpartition(":")[0].strip("[]") for key in self.connect_to)
        return any(
            host_under(host, pattern[2:]) if pattern.startswith("*.") else host == pattern
            for pattern in hosts
        )


@dataclass(frozen=True, slots=True)
class Denied:
    """For the event log, never for a caller: which addresses of a host were skipped, and why."""

    host: str
    port: int
    addresses: tuple[tuple[str, str], ...]


class Dialer:
    """Turns origins into addresses that may be dialled, and into verified TLS contexts.

    Args:
        policy: see :class:`EgressPolicy`.
        clock: monotonic seconds.
        resolve: host and port -> textual addresses; raises OSError when there are none. The operating system
            unless given.
        on_denied: told about every lookup in which an address was skipped.

    Building one needs no event loop; it reads the system's roots and ``ca_file`` at once.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        clock: Callable[[], float],
        *,
        resolve: Resolver | None = None,
        on_denied: Callable[[Denied], None] = lambda denied: None,  # noqa: ARG005  # nobody listens by default
    ) -> None:
        self.policy = policy
        self._clock = clock
        self._resolve = resolve or SystemResolver()
        self._on_denied = on_denied
        self._lookups = Lookups(clock, self._judge, self._still)
        self._context = _tls_context(None)
        self._extra_context = _tls_context(policy.ca_file) if policy.ca_file is not None else self._context

    def ready(self, origin: Origin) -> tuple[Dial, ...] | None:
        """The checked addresses if they are known without waiting, else None: the hot path asks here."""
        return self._lookups.ready(origin)

    async def addresses(self, origin: Origin) -> tuple[Dial, ...]:
        """The checked addresses of an origin, best first, never empty.

        Lookups of one origin at the same time are one; a caller that leaves does not cancel it for others.
        Addresses outlive a resolver that says nothing for a while: see :class:`Lookups`.

        Raises:
            AddressRefused: every address is one that must not be dialled.
            UpstreamUnreachable: the name does not resolve, or not in time.
        """
        known = await self._lookups.get(origin)
        if known.failure is not None:
            raise known.failure(_REFUSED if known.failure is AddressRefused else _UNRESOLVED)
        return known.dials

    def ssl_context(self, origin: Origin) -> ssl.SSLContext | None:
        """The verifying context for an origin (TLS 1.2 or newer, ALPN http/1.1); None for ``http``."""
        if origin.scheme != "https":
            return None
        return self._extra_context if self.policy.trusts_extra_roots(origin.host) else self._context

    def forget(self, origin: Origin) -> None:
        """Look an origin up anew next time: after no address of it accepted a connection."""
        self._lookups.forget(origin)

    async def aclose(self) -> None:
        """Cancel lookups that are still running."""
        await self._lookups.aclose()

    def _still(self, origin: Origin, dial: Dial) -> bool:
        """Whether an address that was judged before passes today, too: what is our own may change."""
        redirected = hostport(origin.host, origin.port) in self.policy.connect_to
        pinned = redirected or self.policy.via(origin) is not None
        return self._reason(origin, dial.ip, dial.port, pinned=pinned) is None

    async def _judge(self, origin: Origin) -> Lookup:
        proxy = self.policy.via(origin)
        if proxy is not None:
            return await self._judge_tunnelled(origin, proxy)
        texts: Sequence[str]
        fixed = self.policy.connect_to.get(hostport(origin.host, origin.port))
        literal = parse_address(origin.host)
        if fixed is not None:
            texts = (fixed.ip,)
        elif literal is not None:
            texts = (str(literal),)
        elif is_odd_ipv4(origin.host):
            return self._refused(origin, ((origin.host, "odd_ipv4"),))
        else:
            resolved = await self._ask(origin.host, origin.port)
            if isinstance(resolved, Lookup):
                return resolved
            texts = resolved
        port = origin.port if fixed is None else fixed.port
        judged = [(text, self._reason(origin, text, port, pinned=fixed is not None)) for text in texts]
        dials = tuple(Dial(text, port) for text, reason in judged if reason is None)
        skipped = tuple((text, reason) for text, reason in judged if reason is not None)
        if not dials:
            return self._refused(origin, skipped)
        if skipped:
            self._on_denied(Denied(origin.host, port, skipped))
        return self._found(dials)

    async def _judge_tunnelled(self, origin: Origin, proxy: EgressProxy) -> Lookup:
        """The proxy's own addresses, which the operator gave: of them only our own listeners are refused."""
        reason = self._reason_by_name(origin)
        if reason is not None:
            return self._refused(origin, ((origin.host, reason),))
        texts = await self._ask(proxy.host, proxy.port)
        if isinstance(texts, Lookup):
            return texts
        judged = [(text, self._reason(origin, text, proxy.port, pinned=True)) for text in texts]
        dials = tuple(Dial(text, proxy.port) for text, fault in judged if fault is None)
        if not dials:
            return self._refused(origin, tuple((text, fault) for text, fault in judged if fault is not None))
        return self._found(dials)

    async def _ask(self, host: str, port: int) -> Sequence[str] | Lookup:
        """What the resolver says, or the failure."""
        answered = False
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                return await self._resolve(host, port)
        except gaierror as error:
            answered = error.errno in {EAI_NONAME, EAI_NODATA}
        except (OSError, UnicodeError):  # asyncio's TimeoutError is an OSError too
            pass
        return Lookup((), UpstreamUnreachable, self._clock() + FAILURE_TTL_S, answered=answered)

    def _found(self, dials: tuple[Dial, ...]) -> Lookup:
        until = self._clock() + ADDRESS_TTL_S
        return Lookup(tuple(dict.fromkeys(dials)), None, until, until + KEPT_S)

    def _reason_by_name(self, origin: Origin) -> str | None:
        """Why an origin must not be asked of the proxy, as far as its name alone tells."""
        if is_odd_ipv4(origin.host):
            return "odd_ipv4"
        name = origin.host.rstrip(".")
        literal = parse_address("127.0.0.1" if name == "localhost" or name.endswith(".localhost") else name)
        return None if literal is None else self.policy.denies(literal, origin.port)

    def _reason(self, origin: Origin, text: str, port: int, *, pinned: bool) -> str | None:
        address = parse_address(text)
        if address is None:
            return "not_an_address"
        if pinned:
            return "self" if self.policy.is_own(address, port) else None
        reason = self.policy.denies(address, port)
        if origin.scheme == "http" and reason != "self":  # in the clear only where it cannot be overheard
            listed = any(
                address in net for net in self.policy.allow_addresses if net.version == address.version
            )
            if address.is_loopback and (origin.host == "localhost" or parse_address(origin.host) is not None):
                return None
            return reason if reason is not None or listed else "plaintext"
        return reason

    def _refused(self, origin: Origin, skipped: tuple[tuple[str, str], ...]) -> Lookup:
        self._on_denied(Denied(origin.host, origin.port, skipped))
        return Lookup((), AddressRefused, self._clock() + FAILURE_TTL_S)


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Not ``ssl.create_default_context``: that one writes session keys where SSLKEYLOGFILE says (R143)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_default_certs()
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context
