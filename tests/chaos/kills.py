"""kill -9 of the process: at random points of its work, and at chosen places inside a refresh."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from field import Field, lap, saving
from support.instances import DiedError
from support.toxic import BlackHole, Slicer

LIMIT_S = 30.0
Place = Callable[[Field], Awaitable[None]]


# --- at random ----------------------------------------------------------------------------------------


async def kill_at_random(field: Field) -> None:
    """Several writes and a refresh are under way when the process is killed."""
    begun = time.monotonic()
    chance = field.chance
    await field.process()
    if chance.random() < 0.8:
        await field.ground.expire("main")
    before = await requests(field)
    call = asyncio.ensure_future(field.call(chance.randint(1, 50)))
    orders = [asyncio.ensure_future(write) for write in writes(field)]
    await asyncio.sleep(chance.expovariate(1 / 0.02))
    await field.kill()
    await asyncio.gather(*orders)
    answer = await call
    if answer is not None and answer["errors"]:
        field.lose(f"calls failed before the kill: {answer['errors']}")
    field.acknowledge(answer)
    await verified(field, "kill -9 at random", before, begun)


def writes(field: Field) -> list[Awaitable[None]]:
    """Up to three of: connect another account, one anew, forget one, make a key, put one out of force, rotate."""
    chance, kept = field.chance, field.kept
    there = sorted(name for name, is_there in kept.names.items() if is_there)
    in_force = sorted(key_id for key_id, is_in_force in kept.keys.items() if is_in_force)
    field.serial += 1
    name = f"account-{field.serial}"
    grant = {"access_token": f"made-up-{name}", "refresh_token": f"made-up-too-{name}"}
    offered: list[Callable[[], Awaitable[None]]] = [
        lambda: field.order("save", name, is_there=True, **saving(name, grant)),
        lambda: field.order("key", name, is_there=True, name=name),
        field.rotate,
    ]
    if there:
        again, *gone = chance.sample(there, min(2, len(there)))
        offered.append(lambda: field.order("save", again, is_there=True, **saving(again, grant)))
        if gone:
            offered.append(lambda: field.order("remove", gone[0], is_there=False, name=gone[0]))
    if in_force:
        key_id = chance.choice(in_force)
        offered.append(lambda: field.order("revoke_key", key_id, is_there=False, key_id=key_id))
    return [make() for make in chance.sample(offered, chance.randint(0, 3))]


# --- inside the window --------------------------------------------------------------------------------


async def requests(field: Field) -> int:
    return await asyncio.to_thread(field.provider.token_requests)


async def _until(look: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not await look():
        if time.monotonic() > deadline:
            raise TimeoutError(f"never came to: {what}")


async def _arrived(field: Field, before: int) -> None:
    async def come() -> bool:
        return await requests(field) > before

    await _until(come, "a token request reaches the provider")


async def _carried_out(field: Field, before: int) -> None:
    async def done() -> bool:
        counts = (await asyncio.to_thread(field.provider.counts)).get("refresh_token", {})
        return sum(counts.values()) > before and not counts.get("waiting", 0)

    await _until(done, "the provider has carried the token request out")


async def claimed_not_sent(field: Field) -> None:
    """The intent is committed, no byte reaches the provider."""
    field.relay.set(up=BlackHole())

    async def intended() -> bool:
        return (await field.ground.connection())["owner"] is not None

    await _until(intended, "an intent is committed")
    await field.kill()


async def sent_not_carried_out(field: Field) -> None:
    """The request has arrived; the provider carries it out when nobody waits any more."""
    before = await requests(field)
    field.provider.adjust(before_s=0.5)
    await _arrived(field, before)
    await field.kill()
    await _carried_out(field, before)


async def carried_out_not_answered(field: Field) -> None:
    """The old refresh token is spent, the answer is still at the provider."""
    before = await requests(field)
    field.provider.adjust(after_s=1.0)
    await _carried_out(field, before)
    await field.kill()


async def half_an_answer(field: Field) -> None:
    """Some bytes of the answer have arrived."""
    field.relay.set(down=Slicer(40, pause=0.01))
    some = field.relay.passed["down"] + field.chance.randint(1, 250)  # an answer has more
    async with asyncio.timeout(LIMIT_S):
        await field.relay.passing("down", some)
    await field.kill()


async def answered_not_saved(field: Field) -> None:
    """The whole answer is there, and the database takes no writes."""
    before = await requests(field)
    field.provider.adjust(before_s=0.5)
    await _arrived(field, before)
    async with field.ground.holding_writes():
        await _carried_out(field, before)
        await asyncio.sleep(field.chance.uniform(0.02, 0.08))
        await field.kill()


async def about_the_commit(field: Field) -> None:
    """Some milliseconds after the last byte of the answer: around the commit."""
    async with asyncio.timeout(LIMIT_S):
        await field.relay.passing("down", field.relay.passed["down"] + 1)
    await asyncio.sleep(field.chance.uniform(0, 0.008))
    await field.kill()


PLACES: dict[str, Place] = {
    "claimed, not sent": claimed_not_sent,
    "sent, not carried out": sent_not_carried_out,
    "carried out, not answered": carried_out_not_answered,
    "half an answer": half_an_answer,
    "answered, not saved": answered_not_saved,
    "about the commit": about_the_commit,
}


async def kill_inside(field: Field, place: str) -> None:
    """The process is killed at that place of a refresh."""
    begun = time.monotonic()
    process = await field.process()
    await field.ground.expire("main")
    await process.ask("look")
    before = await requests(field)
    call = process.begin("get", callers=8)
    try:
        await PLACES[place](field)
    finally:
        field.relay.set()
        field.provider.adjust(before_s=0, after_s=0)
    with contextlib.suppress(DiedError):
        field.acknowledge(await call)
    await verified(field, place, before, begun)


async def verified(field: Field, what: str, before: int, begun: float, *, may_die: bool = True) -> None:
    """After a round: everything that has to be true. ``before``: token requests that had arrived by then."""

    async def idle() -> bool:
        counts = await asyncio.to_thread(field.provider.counts)
        return not counts.get("refresh_token", {}).get("waiting", 0)

    await _until(idle, "the provider is idle")  # it carries out what it has got, also for the dead
    await field.check_kept()
    spent = await requests(field)
    outcome = await field.settle(may_die=may_die and spent > before, requests_before=spent)
    field.tally.token_requests += await requests(field) - before
    field.tally.count(what, field.where, outcome, lap(begun))
