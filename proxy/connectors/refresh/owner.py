"""Who holds a lease: this process, described so that another one can tell for sure when it is gone."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

_STATE, _START = 2, 21  # fields of /proc/PID/stat, counted from 0 (proc(5))
_ENDED = frozenset({"Z", "X", "x"})


@dataclass(frozen=True, slots=True)
class Owner:
    """A process. ``instance``: host name and pid namespace; ``boot``: which run of the kernel.

    ``start`` is in clock ticks since the boot. Where /proc is missing, ``boot`` is empty, and nobody can be
    proven dead.
    """

    instance: str
    boot: str
    pid: int
    start: int

    def __str__(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))


def parse_owner(text: str) -> Owner | None:
    """An owner as a lease names it; None for what this release does not understand."""
    try:
        told = json.loads(text)
        return Owner(str(told["instance"]), str(told["boot"]), int(told["pid"]), int(told["start"]))
    except (ValueError, TypeError, KeyError):
        return None


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start of a process, as far as /proc tells."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = ["", "", *text.rpartition(")")[2].split()]  # the name before it may hold spaces and brackets
    try:
        return fields[_STATE], int(fields[_START])
    except (IndexError, ValueError):
        return None


def this_process() -> Owner:
    """The running process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot = namespace = ""
    pid = os.getpid()
    stat = _stat(pid)
    return Owner(f"{platform.node()}/{namespace}", boot, pid, 0 if stat is None else stat[1])


def is_dead(owner: Owner, here: Owner) -> bool:
    """True when ``owner`` has provably ended, seen from the process ``here``.

    Only a process of the same instance and boot can be looked up; of all others nothing is known.
    """
    if not owner.boot or (owner.instance, owner.boot) != (here.instance, here.boot):
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # another user's process: it lives
    stat = _stat(owner.pid)
    return stat is not None and (stat[0] in _ENDED or stat[1] != owner.start)
