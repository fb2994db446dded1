"""A program with the proxy in its environment: what its SDKs read there, its signals, its exit status."""

import contextlib
import os
import re
import signal
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from proxy.catalog.recipes import Recipe
from proxy.errors import StateError
from proxy.snippets import KEY_VARIABLE, NO_PROXY, Places, environment_of

URL_VARIABLE = "PROXY_URL"
OWN = "CONNECTOR_PROXY_"
"""Our settings, among them tokens and the vault's key: not for the program."""
BUNDLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPLIB2_CA_CERTS")
"""Files that take the place of the system's roots; ``NODE_EXTRA_CA_CERTS`` comes beside them."""
_EXTRA = "NODE_EXTRA_CA_CERTS"
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+", re.ASCII)
_FORWARDED = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
)
_BY_SIGNAL = 128
_LOOK_EVERY_S = 1.0  # a thread that some library began before may take SIGCHLD in our place
_NOT_FOUND, _NOT_RUNNABLE = 127, 126


def child_environment(
    inherited: Mapping[str, str],
    *,
    places: Places,
    services: Iterable[str],
    recipes: Sequence[Recipe],
    key: str,
    has_tls: bool,
) -> dict[str, str]:
    """The variables of a program that is to call ``services`` (ids, maybe with ``@connection``).

    It keeps ``inherited`` but for our own settings. Of ``recipes`` those that fit count; those that insist on
    https only with ``has_tls``.
    """
    kept = {name: value for name, value in inherited.items() if not name.startswith(OWN)}
    for service in services:
        for recipe in recipes:
            if service.partition("@")[0] in recipe.services and (has_tls or not recipe.tls):
                kept.update(environment_of(recipe, service, places, key))
    ours = [*NO_PROXY.split(","), urlsplit(places.data).hostname or ""]
    for name in ("NO_PROXY", "no_proxy"):
        there = [one for one in kept.get(name, "").split(",") if one]
        kept[name] = ",".join(dict.fromkeys((*there, *filter(None, ours))))
    return {**kept, URL_VARIABLE: places.data, KEY_VARIABLE: key}


def trusting(environment: Mapping[str, str], ca_file: Path, folder: Path) -> dict[str, str]:
    """The environment of a program that trusts ``ca_file`` besides what it would trust anyway.

    ``folder`` takes the files of certificates that its variables name, and is needed for as long as it runs.

    Raises:
        StateError: a file that the environment names, or ours, cannot be read or written.
    """
    changed = dict(environment)
    try:
        ours = ca_file.read_bytes()
        for name in (*BUNDLES, _EXTRA):
            if environment.get(name):
                before = Path(environment[name]).read_bytes()
            else:
                before = b"" if name == _EXTRA else system_roots()
            bundle = folder / f"{name}.pem"
            bundle.write_bytes(before.rstrip() + b"\n" * bool(before) + ours)
            changed[name] = str(bundle)
    except OSError as error:
        raise StateError(f"{error.filename} cannot be used: {error.strerror}") from error
    return changed


def system_roots() -> bytes:
    """The roots that OpenSSL finds on this machine, PEM; ``SSL_CERT_FILE`` counts."""
    found = ssl.get_default_verify_paths()
    if found.cafile:
        return Path(found.cafile).read_bytes()
    names = Path(found.capath).iterdir() if found.capath else ()
    files = {path.resolve() for path in names if _HASHED.fullmatch(path.name)}
    return b"\n".join(path.read_bytes() for path in sorted(files))


@contextlib.contextmanager
def signals_held() -> Iterator[frozenset[int]]:
    """Nothing interrupts us in the block: what comes is told by :func:`run_child`, or waits until the end.

    Yields the mask before, which is the program's.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED | {signal.SIGCHLD})
    try:
        yield frozenset(int(one) for one in before)
    finally:
        while pending := signal.sigpending() & (_FORWARDED | {signal.SIGCHLD}):
            signal.sigwait(pending)  # they were for the program, which has ended
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def interrupted() -> int | None:
    """The exit status for a signal that came before there was a program to tell."""
    early = signal.sigpending() & _FORWARDED
    return _BY_SIGNAL + min(early) if early else None


def run_child(command: Sequence[str], environment: Mapping[str, str], mask: frozenset[int]) -> int:
    """Run a program to its end, inside of :func:`signals_held`; its exit status, 128 + n after signal n.

    Signals that processes send to us go on to it. Those of the terminal reach it by themselves: it is in the
    same process group.

    Raises:
        StateError: it cannot be started.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if ignored (and inherited so), no status would be kept
    try:
        child = os.posix_spawnp(
            command[0],
            list(command),
            dict(environment),
            setsigmask=mask,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python ignores
        )
    except OSError as error:
        raise NotStartedError(command[0], error) from error
    while True:
        told = signal.sigtimedwait(_FORWARDED | {signal.SIGCHLD}, _LOOK_EVERY_S)
        if told is not None and told.si_signo != signal.SIGCHLD:
            if told.si_code <= 0:  # by a process (sigaction(2)); positive: by the kernel
                os.kill(child, told.si_signo)
            continue
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else _BY_SIGNAL - code


class NotStartedError(StateError):
    """A program that cannot be started; ``status`` as a shell gives it."""

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(f"{name} cannot be started: {error.strerror}")
        self.status = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE
