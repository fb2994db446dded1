"""An address that answers nothing, not even a SYN: a listening socket whose queue is full."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def silent(ip: str, port: int = 0) -> Iterator[int]:
    """The port, for as long as connections to it are neither accepted nor refused."""
    with ExitStack() as held:
        full = held.enter_context(socket.socket())
        full.bind((ip, port))
        full.listen(0)
        for _ in range(4):
            filler = held.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield full.getsockname()[1]
