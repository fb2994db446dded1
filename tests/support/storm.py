"""Everybody wants an expired token at once: callers in several processes, round after round."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from support.grounds import Ground
from support.instances import Instance, Instances
from support.providers.real import Provider


@dataclass(slots=True)
class Storm:
    """What happened, counted. ``wrong``: one sentence for each round that was not as it has to be."""

    rounds: int = 0
    calls: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    token_requests: int = 0
    wrong: list[str] = field(default_factory=list)
    is_alive: bool = False
    took_s: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.rounds} rounds, {self.calls} calls, {self.failed.total()} failed, "
            f"{self.token_requests} token requests, {'alive' if self.is_alive else 'DEAD'}, {self.took_s:.1f} s"
        )


async def storm(
    ground: Ground,
    provider: Provider,
    instances: Instances,
    *,
    rounds: int,
    processes: int = 4,
    callers: int = 50,
) -> Storm:
    """``rounds`` times: the token expires in the database, and all callers of all processes ask for it."""
    crowd = [await instances.start(ground.config, ground.data_dir) for _ in range(processes)]
    first = provider.issue_grant()
    saved = await crowd[0].ask(
        "save", name="main", access=first["access_token"], refresh=first["refresh_token"], expires_in=3600
    )
    seen, begun = Storm(), time.monotonic()
    before = provider.token_requests()
    last = first["access_token"]
    for number in range(1, rounds + 1):
        last = await _round(ground, crowd, callers, seen, last)
        asked = provider.token_requests() - before
        generation = (await ground.connection())["generation"]
        if asked != number or generation != number + saved["generation"]:
            seen.wrong.append(f"round {number}: {asked} token requests, generation {generation}")
            break
    seen.took_s = time.monotonic() - begun
    seen.token_requests = provider.token_requests() - before
    seen.is_alive = provider.is_alive(first["refresh_token"]) and provider.accepts(last)
    for one in crowd:
        await one.close()
    return seen


async def _round(ground: Ground, crowd: list[Instance], callers: int, seen: Storm, last: str) -> str:
    await ground.expire()
    await asyncio.gather(*(one.ask("look") for one in crowd))  # from here on the old token is expired for all
    answers = await asyncio.gather(*(one.ask("get", callers=callers) for one in crowd))
    tokens: Counter[str] = sum((Counter(answer["tokens"]) for answer in answers), Counter())
    seen.rounds += 1
    seen.calls += callers * len(crowd)
    for answer in answers:
        seen.failed.update(answer["errors"])
    if len(tokens) != 1 or last in tokens:
        seen.wrong.append(f"round {seen.rounds}: {len(tokens)} tokens, the old one {tokens[last]} times")
    return next(iter(tokens), last)
