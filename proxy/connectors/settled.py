"""Work that a cancelled caller waits for all the same."""

import asyncio
import contextlib
from typing import TypeVar

_T = TypeVar("_T")


async def settled(future: "asyncio.Future[_T]") -> _T:
    """Wait for work to its end even when cancelled, so that nothing goes on behind our back."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        if not future.cancelled():
            future.exception()
        raise
