"""Fitting a process of the server to its work: its limits, its interpreter."""

import gc
import os
import resource
import sys

from proxy import log


def settle_process() -> None:
    """What it writes is private, a core dump does not happen, and it may have as many files as it can."""
    os.umask(0o077)
    forbid_core_dumps()
    _raise_file_limit()


def forbid_core_dumps() -> None:
    """A core dump would hold every token (R143): none is written here, nor handed to a crash reporter.

    The limit is one byte, not none: Linux hands a dump to a program in ``core_pattern`` whatever the limit
    (core(5)), but for this value, by which it knows that there shall be none at all (fs/coredump.c).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard != 0:  # otherwise only root could set it
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))


def _raise_file_limit() -> None:
    """As many open files as the system lets us have: every caller and every upstream connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError) as error:
            log.event("file_limit_not_raised", level="warning", soft=soft, reason=str(error))


def settle_interpreter() -> None:
    """Fit the interpreter to a server: what is there now stays, and other threads get their turn soon.

    The catalog and the modules are a few hundred thousand objects which each full collection would walk, with
    every request waiting; and the log's thread would keep the interpreter for 5 ms at a time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    sys.setswitchinterval(0.001)
