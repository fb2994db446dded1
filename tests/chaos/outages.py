"""The process lives, and what it depends on does not: the database, and the way to the token endpoint."""

import asyncio
import time
from collections.abc import Callable

from field import Field
from kills import requests, verified, writes
from support.postgres import Postgres
from support.toxic import BlackHole, Down, Latency, LimitData, ResetPeer, Slicer, Toxic

BACK_S = 40.0


# --- PostgreSQL ---------------------------------------------------------------------------------------


def restart(server: Postgres, _seconds: float) -> None:
    """As an administrator does."""
    server.stop()
    server.start()


def freeze(server: Postgres, seconds: float) -> None:
    """SIGSTOP: it answers nothing and closes nothing."""
    with server.frozen():
        time.sleep(seconds)


def crash(server: Postgres, _seconds: float) -> None:
    """kill -9 of all its processes."""  # noqa: D403  # a command's name
    server.kill()
    server.start()


OUTAGES: dict[str, Callable[[Postgres, float], None]] = {
    "PostgreSQL restarted": restart,
    "PostgreSQL stopped (SIGSTOP)": freeze,
    "PostgreSQL kill -9": crash,
}


async def outage(field: Field, server: Postgres, kind: str) -> None:
    """The database goes away during a refresh and writes; afterwards all that was answered is there."""
    begun = time.monotonic()
    chance = field.chance
    process = await field.process()
    await field.ground.expire("main")
    await process.ask("look")
    before = await requests(field)
    field.is_outage = True
    call = asyncio.ensure_future(field.call(chance.randint(1, 50)))
    orders = [asyncio.ensure_future(write) for write in writes(field)]
    await asyncio.sleep(chance.expovariate(1 / 0.02))
    await asyncio.to_thread(OUTAGES[kind], server, chance.uniform(0.3, 2.0))
    await asyncio.gather(*orders)
    field.acknowledge(await call)
    field.is_outage = False
    await _back(field)
    await verified(field, kind, before, begun, may_die=False)


async def _back(field: Field) -> None:
    """Calls work again by themselves: nobody was killed, so nothing may need a person."""
    deadline = time.monotonic() + BACK_S
    while True:
        answer = await field.call(1)
        assert answer is not None, "nobody kills here"
        if answer["tokens"]:
            return
        if time.monotonic() > deadline:
            field.lose(f"calls fail {BACK_S:.0f} s after the database came back: {answer['errors']}")
            return
        await asyncio.sleep(0.2)


# --- the way to the token endpoint --------------------------------------------------------------------


def _toxics(field: Field) -> dict[str, dict[str, Toxic]]:
    some = field.chance.randint
    return {
        "slow": {"up": Latency(some(1, 200) / 1000), "down": Latency(some(1, 200) / 1000)},
        "one byte at a time": {"down": Slicer(1, 0.0005)},
        "refused": {"up": Down()},
        "reset before the request is whole": {"up": ResetPeer(some(1, 150))},
        "closed before the request is whole": {"up": LimitData(some(1, 150))},
        "reset inside the answer": {"down": ResetPeer(some(0, 400))},
        "closed inside the answer": {"down": LimitData(some(1, 400))},
        "no answer": {"down": BlackHole(0.2)},
    }


FAULTS = (
    "slow", "one byte at a time", "refused", "reset before the request is whole",
    "closed before the request is whole", "reset inside the answer", "closed inside the answer", "no answer",
)  # fmt: skip


async def fault(field: Field, kind: str) -> None:
    """A refresh meets a broken network; the time that it then waits is ended by hand, and it goes on."""
    begun = time.monotonic()
    process = await field.process()
    await field.ground.expire("main")
    await process.ask("look")
    before = await requests(field)
    field.relay.set(**_toxics(field)[kind])  # type: ignore[arg-type]  # up and down
    try:
        field.acknowledge(await field.call())
    finally:
        field.relay.set()
    await field.ground.change(("UPDATE refreshes SET retry_at = NULL",))
    await field.kill()  # its own pause is forgotten with it
    await verified(field, f"token endpoint: {kind}", before, begun)
