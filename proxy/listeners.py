"""Sockets to listen on: bound before anything else starts, so that a taken port changes nothing."""

import asyncio
import contextlib
import datetime as dt
import errno
import os
import socket
import ssl
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from proxy import localca
from proxy.certificates import load_certificate, server_context
from proxy.errors import StateError
from proxy.forwarding.addresses import Dial
from proxy.settings import Listen, Settings

BACKLOG = 1024
HANDSHAKE_S = 15.0  # a connection counts towards the limits only after its handshake: not asyncio's 60 s
_NO_SUCH_ADDRESS = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_LOOPBACK = ("127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Place:
    """What a group of addresses is for, and how an operator changes it; ``mode``: of unix sockets there."""

    purpose: str
    remedy: str
    mode: int = 0o660


DATA = Place("the data plane", "--port (data.listen)")
DATA_TLS = Place("the TLS listener of the data plane", "--tls-port (data.tls.listen)")
CONTROL = Place("the control plane", "--control-port (control.listen)", mode=0o600)


def bind(listens: Iterable[Listen], place: Place) -> tuple[socket.socket, ...]:
    """Bound sockets, not listening yet; names such as ``localhost`` may give several.

    Of the addresses of one name, those that this machine lacks are left out if it has another one.

    ``[::1]`` beside ``127.0.0.1`` on the same port is left out on machines without IPv6, and follows the port
    that the system chose for its sibling.

    Raises:
        StateError: an address is taken, not ours, or not allowed to us; nothing stays bound then.
    """
    bound: list[socket.socket] = []
    wanted = tuple(listens)
    try:
        for listen in wanted:
            if listen.path is not None:
                bound.append(_bind_unix(listen.path, place))
                continue
            bound.extend(_bind_tcp(listen, place, bound, is_optional=_has_sibling(listen, wanted)))
    except BaseException:
        for one in bound:
            one.close()
        raise
    return tuple(bound)


def _has_sibling(listen: Listen, wanted: Iterable[Listen]) -> bool:
    return listen.host == _LOOPBACK[1] and Listen(_LOOPBACK[0], listen.port) in wanted


def _bind_tcp(
    listen: Listen, place: Place, before: Iterable[socket.socket], *, is_optional: bool
) -> list[socket.socket]:
    port = listen.port
    if is_optional and port == 0:
        port = next((one.getsockname()[1] for one in before if one.family == socket.AF_INET), 0)
    made: list[socket.socket] = []
    try:
        infos = socket.getaddrinfo(listen.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        _bind_some([(info[:3], info[4]) for info in dict.fromkeys(infos)], made)
    except socket.gaierror as error:
        raise StateError(
            f"{listen} for {place.purpose} is no address of this machine: correct {place.remedy}"
        ) from error
    except OSError as error:
        for one in made:
            one.close()
        if is_optional and error.errno in _NO_SUCH_ADDRESS:
            return []
        if is_optional and listen.port == 0 and port:
            return _bind_tcp(listen, place, (), is_optional=True)
        raise _refusal(listen, place, error) from error
    return made


def _bind_some(infos: Iterable[tuple[tuple[int, int, int], object]], made: list[socket.socket]) -> None:
    """Bind a socket to each address of one name that the machine has; one it has to have."""
    missing: OSError | None = None
    for kind, address in infos:
        try:
            made.append(_bind_one(socket.socket(*kind), address))
        except OSError as error:
            if error.errno not in _NO_SUCH_ADDRESS:
                raise
            missing = error
    if missing is not None and not made:
        raise missing


def _bind_one(one: socket.socket, address: object) -> socket.socket:
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if one.family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.setblocking(False)
        one.bind(address)  # type: ignore[arg-type]  # as getaddrinfo gave it
        one.listen(0)  # takes the port for good: binding alone lets another program bind it too; see start()
    except BaseException:
        one.close()
        raise
    return one


def _refusal(listen: Listen, place: Place, error: OSError) -> StateError:
    if error.errno == errno.EADDRINUSE:
        return StateError(
            f"{listen} for {place.purpose} is in use by another program: "
            f"stop that one, or choose another port with {place.remedy}"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return StateError(
            f"{listen} for {place.purpose} is only for root: choose a port from 1024 on with {place.remedy}, "
            "or allow this one with 'setcap cap_net_bind_service=+ep' on the Python program"
        )
    return StateError(
        f"{listen} for {place.purpose} cannot be used ({os.strerror(error.errno or 0)}): "
        f"correct {place.remedy}"
    )


def _bind_unix(path: Path, place: Place) -> socket.socket:
    """A unix socket, of the control plane for its owner only; one that nobody serves any more is replaced."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path, place)
        one.setblocking(False)
        one.bind(str(path))
        path.chmod(place.mode)
    except OSError as error:
        one.close()
        raise _refusal(Listen(path=path), place, error) from error
    except BaseException:
        one.close()
        raise
    return one


def _remove_stale(path: Path, place: Place) -> None:
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise StateError(
                f"{path} for {place.purpose} is there already and no socket: choose another path"
            )
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "a server answers there")


def release(sockets: Iterable[socket.socket], listens: Iterable[Listen]) -> None:
    """Close what :func:`bind` gave for ``listens``, and remove the files of unix sockets."""
    for one in sockets:
        one.close()
    for listen in listens:
        if listen.path is not None:
            with contextlib.suppress(OSError):
                listen.path.unlink()


def texts(sockets: Iterable[socket.socket]) -> list[str]:
    """Addresses as bound: ``host:port``, ``[v6]:port`` or ``unix:/path``."""
    return [str(_bound(one)) for one in sockets]


def _bound(one: socket.socket) -> Listen:
    name = one.getsockname()
    return Listen(path=Path(name)) if one.family == socket.AF_UNIX else Listen(name[0], name[1])


def dials(sockets: Iterable[socket.socket]) -> tuple[Dial, ...]:
    """The TCP addresses, for the guard against calling ourselves."""
    return tuple(
        Dial(name[0], name[1])
        for name in (one.getsockname() for one in sockets if one.family != socket.AF_UNIX)
    )


@dataclass(frozen=True, slots=True)
class Sockets:
    """What is listened on, bound before anything else; ``own``: for one service each."""

    data: tuple[socket.socket, ...]
    tls: tuple[socket.socket, ...]
    control: tuple[socket.socket, ...]
    own: tuple[tuple[str, socket.socket], ...] = ()

    @property
    def all(self) -> tuple[socket.socket, ...]:
        """Every socket."""
        return (*self.data, *self.tls, *self.control, *(one for _, one in self.own))

    def addresses(self) -> Mapping[str, list[str]]:
        """Bound addresses, as ``server.json`` has them."""
        return {
            "data": texts(self.data),
            "tls": texts(self.tls),
            "control": texts(self.control),
            "listeners": [f"{service}={text}" for service, one in self.own for text in texts((one,))],
        }


@contextlib.contextmanager
def bound(settings: Settings) -> Iterator[Sockets]:
    """All sockets of the settings, released at the end.

    Raises:
        StateError: one of them cannot be had; none is held then.
    """
    with contextlib.ExitStack() as stack:

        def take(listens: tuple[Listen, ...], place: Place) -> tuple[socket.socket, ...]:
            made = bind(listens, place)
            stack.callback(release, made, listens)
            return made

        yield Sockets(
            take(settings.data.listen, DATA),
            take(settings.data.tls.listen, DATA_TLS),
            take(settings.control.listen, CONTROL),
            tuple(
                (service, one)
                for service, listen in settings.listeners.items()
                for one in take((listen,), Place(f"the listener of {service}", f"listeners.{service}"))
            ),
        )


Bound = tuple[socket.socket, ...]


@contextlib.contextmanager
def bound_control(settings: Settings) -> Iterator[Bound]:
    """The control plane's sockets alone, released at the end.

    Raises:
        StateError: one of them cannot be had; none is held then.
    """
    made = bind(settings.control.listen, CONTROL)
    try:
        yield made
    finally:
        release(made, settings.control.listen)


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The server side of the TLS listener; None when it is off.

    Raises:
        ConfigurationError: a certificate that does not load.
        StateError: none is configured, and the local authority's cannot be made.
    """
    if not settings.data.tls.listen:
        return None
    return _with_certificate(server_context(), settings)


def show_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    """Take the certificate that the files hold by now for handshakes that begin from now on.

    Only for the thread that begins them, and after :func:`tls_context` has proved that the files are good: in
    between, and after a failure half-way, the context has a certificate without its key.

    Raises:
        ConfigurationError, StateError: as :func:`tls_context`.
    """
    _with_certificate(context, settings)


def signs_itself(settings: Settings) -> bool:
    """True when the TLS listener shows a certificate of the data folder's own authority."""
    tls = settings.data.tls
    return bool(tls.listen) and tls.cert_file is None


def check_certificate(settings: Settings) -> None:
    """Refuse what the TLS listener could not use; nothing is made.

    Raises:
        ConfigurationError, StateError: as :func:`tls_context`.
    """
    if signs_itself(settings):
        localca.check(settings.storage.data_dir)
    else:
        tls_context(settings)


def _with_certificate(context: ssl.SSLContext, settings: Settings) -> ssl.SSLContext:
    tls = settings.data.tls
    chain, key = tls.cert_file, tls.key_file
    if chain is None or key is None:
        chain = key = localca.ensure_leaf(settings.storage.data_dir, dt.datetime.now(dt.UTC))
    load_certificate(context, chain, key, place="data.tls.cert_file")
    return context


async def serve(
    factory: Callable[[], asyncio.BaseProtocol],
    one: socket.socket,
    context: ssl.SSLContext | None,
) -> asyncio.AbstractServer:
    """Accept connections on a bound socket, with TLS if there is a context."""
    loop = asyncio.get_running_loop()
    make = loop.create_unix_server if one.family == socket.AF_UNIX else loop.create_server
    patience = None if context is None else HANDSHAKE_S
    return await make(factory, sock=one, ssl=context, backlog=BACKLOG, ssl_handshake_timeout=patience)
