"""Starting a worker: a fresh interpreter with the descriptors it is to have, and with nothing to be read."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_ENTRY = Path(__file__).with_name("__worker__.py")
_FLAGS = {
    "isolated": "-I",
    "ignore_environment": "-E",
    "no_user_site": "-s",
    "dont_write_bytecode": "-B",
}
_LATER = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def spawn(inherited: Iterable[int]) -> tuple["subprocess.Popen[bytes]", socket.socket]:
    """A new worker and our end of its channel.

    A new interpreter rather than a fork: this process has threads and a loop, of which a fork keeps one and
    half. Signals wait until the worker is ready to handle them.

    Args:
        inherited: descriptors that it gets under the same numbers.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    handle = theirs.fileno()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LATER)
    try:
        child = subprocess.Popen(  # noqa: S603  # our own interpreter and file
            [sys.executable, *interpreter_flags(), "-P", str(_ENTRY), str(handle)],
            stdin=subprocess.DEVNULL,
            pass_fds=(handle, *inherited),
        )
    except BaseException:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    return child, ours


def interpreter_flags() -> list[str]:
    """What this interpreter was started with, as far as it matters to what a worker may import and say."""
    flags = [flag for name, flag in _FLAGS.items() if getattr(sys.flags, name)]
    if sys.flags.dev_mode:
        flags.append("-Xdev")
    return [*flags, *(f"-W{one}" for one in sys.warnoptions)]


def how_it_ended(child: "subprocess.Popen[bytes]", patience_s: float) -> int:
    """Wait for a worker that has hung up, in a thread; its exit status, negative for a signal."""
    try:
        return child.wait(patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()
