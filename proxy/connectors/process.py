"""Running a helper command for a secret: no shell, bounded in time and output, its words never logged."""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence

from proxy.errors import ConnectorProxyError

_CHUNK = 65536


class CommandFailedError(ConnectorProxyError):
    """What the command did wrong, as the end of a sentence; never what it printed."""


async def _read(stream: asyncio.StreamReader, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while chunk := await stream.read(_CHUNK):
        size += len(chunk)
        if size > max_bytes:
            raise CommandFailedError(f"printed more than {max_bytes} bytes")
        parts.append(chunk)
    return b"".join(parts)


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(_CHUNK):
        pass


async def _collect(process: Process, max_bytes: int) -> bytes:
    if process.stdout is None or process.stderr is None:
        raise CommandFailedError("has no output pipes")
    try:
        async with asyncio.TaskGroup() as group:
            printed = group.create_task(_read(process.stdout, max_bytes))
            group.create_task(_drain(process.stderr))
            group.create_task(process.wait())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return printed.result()


async def _kill(process: Process) -> None:
    """End the command and whatever it started and left behind: it leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def run_command(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout: float,  # noqa: ASYNC109  # the command's own limit: on its end the whole process group is killed
    max_bytes: int = 2**20,
) -> bytes:
    """Run ``argv`` and give what it printed on standard output.

    Standard error is read and thrown away: helpers print tokens there when they are asked to be verbose.

    Raises:
        CommandFailedError: not startable, exit status not 0, over ``timeout`` seconds or ``max_bytes``.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=dict(environment), start_new_session=True
        )
    except (OSError, ValueError) as error:
        raise CommandFailedError(f"could not be started ({type(error).__name__})") from None
    try:
        async with asyncio.timeout(timeout):
            printed = await _collect(process, max_bytes)
    except TimeoutError:
        await asyncio.shield(_kill(process))
        raise CommandFailedError(f"did not end within {timeout:g} s") from None
    except BaseException:
        await asyncio.shield(_kill(process))
        raise
    if process.returncode != 0:
        raise CommandFailedError(f"failed with exit status {process.returncode}")
    return printed
