"""What observing permits would have refused: counted through restarts, over instances, and bounded."""

import pytest
from support.stores import VaultPlace
from support.vaults import NOW, Clock

from proxy.connectors.observed import MOST, Observed

pytestmark = pytest.mark.usefixtures("runner")
DAY = 86_400.0


async def test_counts_are_added_up_and_outlive_whoever_counted(place: VaultPlace) -> None:
    """Two instances add to one count; another that opens the vault later finds it, with its first and last time."""
    clock = Clock()
    call, other = ("k1", "slack", "POST", "/api/x"), ("k1", "slack", "GET", "/api/*")
    async with place.opened(clock=clock) as one, place.opened(clock=clock) as two:
        await one.add_observed({call: 2, ("k2", "slack", "GET", "/"): 9})
        clock.now += 60
        await two.add_observed({call: 3, other: 1})
    async with place.opened() as later:
        assert await later.observed_of("k1") == (
            Observed("slack", "POST", "/api/x", 5, NOW, NOW + 60),
            Observed("slack", "GET", "/api/*", 1, NOW + 60, NOW + 60),
        )
        assert await later.observed_of("k3") == ()


async def test_rows_have_an_end(place: VaultPlace) -> None:
    """Callers make shapes of paths: beyond the limit a key has one row for the rest, and old rows go with the audit's."""
    clock = Clock()
    async with place.opened(clock=clock) as vault:
        await vault.add_observed({("k", "slack", "GET", f"/{at}"): 1 for at in range(MOST + 5)})
        await vault.add_observed({("new", "slack", "GET", f"/{at}"): 1 for at in range(3)})
        assert len(await vault.observed_of("k")) == MOST + 1
        assert [one.requests for one in await vault.observed_of("k") if one.is_rest] == [5]
        (rest,) = await vault.observed_of("new")
        assert (rest.is_rest, rest.requests) == (True, 3)
        clock.now += 91 * DAY
        await vault.add_observed({("k", "slack", "GET", "/0"): 1})
        await vault.prune_audit(90)
        assert [(one.path, one.requests) for one in await vault.observed_of("k")] == [("/0", 2)]
