"""Imported by the interpreter before an SDK: this process may reach the addresses of SDK_ALLOWED and nothing else.

An audit hook sees every name look-up and every connect of CPython's socket module, whoever calls it. What
is meant for elsewhere is written to the file ``SDK_TRAP`` and fails, so that it is a finding, not traffic.
"""

import os
import sys

_PLACES = [tuple(place.split(":")) for place in os.environ["SDK_ALLOWED"].split(",")]  # all on one host
_HOST = _PLACES[0][0]
_FILE = os.environ["SDK_TRAP"]
_NAMES = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
_DIALS = {"socket.connect", "socket.sendto", "socket.sendmsg"}


def _is_home(host: object) -> bool:
    return (host.decode("ascii", "replace") if isinstance(host, bytes) else host) == _HOST


def _watch(event: str, args: tuple[object, ...]) -> None:
    if event in _NAMES:
        if _is_home(args[0]):
            return
        target = args[0]
    elif event in _DIALS:
        target = args[1]
        if not isinstance(target, tuple) or (target[0], str(target[1])) in _PLACES:
            return
    else:
        return
    with open(_FILE, "a", encoding="utf-8") as found:  # noqa: PTH123  # pathlib is too much to load before every program
        found.write(f"{event} {target}\n")
    raise OSError(f"trapped: {event} {target}")


sys.addaudithook(_watch)
