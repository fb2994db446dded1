"""All rounds of a run, in turn over grounds and providers."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from field import Field, fields
from kills import PLACES, kill_at_random, kill_inside, verified
from outages import FAULTS, OUTAGES, fault, outage
from servers import SETTINGS, kill_server, kill_workers
from support.proxy import NotReadyError
from support.storm import storm
from tally import Tally


@dataclass(frozen=True, slots=True)
class Plan:
    """How many rounds of each kind, over all grounds and providers together."""

    random: int = 500
    aimed: int = 100
    servers: int = 16
    workers: int = 12
    outages: int = 36
    faults: int = 40
    storms: int = 100

    def scaled(self, share: float) -> "Plan":
        """The same, smaller; at least one round of each kind and place."""
        sizes = {name: max(round(getattr(self, name) * share), 1) for name in self.__slots__}
        return Plan(**{**sizes, "aimed": max(sizes["aimed"], len(PLACES))})


ROUND_S = 120.0
SHORT = Plan(random=8, aimed=12, servers=0, workers=0, outages=0, faults=0, storms=0)


async def chaos(plan: Plan, seed: int, folder: Path, tell: Callable[[str], None]) -> Tally:
    """All rounds of a plan; ``tell`` hears what is going on."""
    tally, chance = Tally(), random.Random(seed)
    async with fields(folder, tally, chance, SETTINGS) as (grounds, server):
        tell(f"{plan.aimed} kills inside a refresh")
        places = list(PLACES)
        for number in range(plan.aimed):
            one = grounds[(number + number // 12) % len(grounds)]  # every place meets every ground
            await guarded(one, kill_inside(one, places[number % len(places)]))
        tell(f"{plan.random} kills at random")
        for _, one in _turns(grounds, plan.random):
            await guarded(one, kill_at_random(one))
        tell(f"{plan.faults} faults of the token endpoint")
        for number, one in _turns(grounds, plan.faults):
            await guarded(one, fault(one, FAULTS[number // len(grounds) % len(FAULTS)]))
        tell(f"{plan.outages} outages of PostgreSQL")
        kinds = list(OUTAGES)
        on_postgres = [one for one in grounds if one.ground.name == "postgres"]
        for number, one in _turns(on_postgres, plan.outages):
            await guarded(one, outage(one, server, kinds[number // len(on_postgres) % len(kinds)]))
        tell(f"{plan.servers} kills of a server, {plan.workers} of a worker")
        for number, one in _turns(grounds, plan.servers):
            await guarded(one, kill_server(one, workers=1 + number // len(grounds) % 2))
        for _, one in _turns(grounds, min(len(grounds), plan.workers)):
            await guarded(one, kill_workers(one, plan.workers // len(grounds)))
        tell(f"{plan.storms} storms on each store")
        for one in grounds[:2] if plan.storms else ():
            await guarded(one, _storms(one, plan.storms))
    return tally


def _turns(grounds: Sequence[Field], rounds: int) -> Iterator[tuple[int, Field]]:
    for number in range(rounds):
        yield number, grounds[number % len(grounds)]


async def _storms(one: Field, rounds: int) -> None:
    await one.kill()
    seen = await storm(one.ground, one.provider, one.instances, rounds=rounds)
    for fault_of_it in seen.wrong:
        one.lose(f"storm: {fault_of_it}")
    if seen.failed or not seen.is_alive or seen.token_requests != rounds:
        one.lose(f"storm: {seen}, {dict(seen.failed)}")
    one.tally.calls += seen.calls
    one.tally.token_requests += seen.token_requests
    for _ in range(seen.rounds):
        one.tally.count("storm of 4 x 50 callers", one.where, "one request", seen.took_s / seen.rounds)


async def guarded(one: Field, work: Awaitable[None]) -> None:
    """A round that fails is a loss, and no reason to stop; one that only ran out of time may be none."""
    try:
        async with asyncio.timeout(ROUND_S):
            await work
    except (TimeoutError, NotReadyError) as error:
        await _too_slow(one, f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001  # whatever it is, it is told at the end
        one.lose(f"{type(error).__name__}: {error}")
        await one.kill()


async def _too_slow(one: Field, why: str) -> None:
    """A crowded machine may be the reason: killed and started anew, everything has to be there all the same."""
    begun = time.monotonic()
    try:
        async with asyncio.timeout(ROUND_S):
            one.relay.set()
            one.provider.adjust(before_s=0, after_s=0)
            one.is_outage = False
            await one.kill()
            await one.ground.change(("UPDATE refreshes SET retry_at = NULL",))
            await verified(one, "not played to the end", -1, begun)
        one.tally.unjudged.append(f"{one.where}: {why}")
    except Exception as error:  # noqa: BLE001  # whatever it is, it is told at the end
        one.lose(f"{why}; and then {type(error).__name__}: {error}")
        await one.kill()
