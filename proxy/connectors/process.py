"""Running a helper command for a secret: no shell, bounded in time and output, its words never logged."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

from proxy.errors import ConnectorProxyError

_STDOUT = 1


class CommandFailedError(ConnectorProxyError):
    """What the command did wrong, as the end of a sentence; never what it printed."""


class _Output(asyncio.SubprocessProtocol):
    """Keeps standard output up to a size, not standard error: helpers print tokens there when verbose.

    ``done`` ends when the output does, or is too long; ``closed`` when process and pipes are gone.
    """

    def __init__(self, max_bytes: int) -> None:
        loop = asyncio.get_running_loop()
        self.printed = bytearray()
        self.done: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._max_bytes = max_bytes

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd != _STDOUT or self.done.done():
            return
        self.printed += data
        if len(self.printed) > self._max_bytes:
            self.done.set_exception(CommandFailedError(f"printed more than {self._max_bytes} bytes"))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self.closed.set_result(None)
        if not self.done.done():
            self.done.set_result(None)


async def run_command(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout: float,  # noqa: ASYNC109  # the command's own limit: on its end the whole process group is killed
    max_bytes: int = 2**20,
) -> bytes:
    """Run ``argv`` and give what it printed on standard output.

    The command leads a process group of its own, which is killed when it does not end well in time.

    Raises:
        CommandFailedError: not startable, exit status not 0, over ``timeout`` seconds or ``max_bytes``.
    """
    output = _Output(max_bytes)
    try:
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: output,
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise CommandFailedError(f"could not be started ({type(error).__name__})") from None
    try:
        async with asyncio.timeout(timeout):
            await output.done
    except TimeoutError:
        raise CommandFailedError(f"did not end within {timeout:g} s") from None
    finally:
        if not output.closed.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(transport.get_pid(), signal.SIGKILL)
        transport.close()
        await asyncio.shield(output.closed)
    status = transport.get_returncode()
    if status != 0:
        raise CommandFailedError(f"failed with exit status {status}")
    return bytes(output.printed)
