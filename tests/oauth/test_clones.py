"""A copied vault must not spend the refresh tokens of the original; on both stores and both OAuth servers."""

import asyncio
from pathlib import Path
from typing import Any

from support.grounds import Ground
from support.instances import Instance, Instances
from support.providers.real import Provider


async def _connected(
    ground: Ground, provider: Provider, instances: Instances
) -> tuple[Instance, dict[str, Any]]:
    ground.configure(provider)
    one = await instances.start(ground.config, ground.data_dir)
    grant = provider.issue_grant()
    saved = await one.ask(
        "save", name="main", access=grant["access_token"], refresh=grant["refresh_token"], expires_in=3600
    )
    assert saved["generation"] == 1
    return one, grant


async def test_a_copy_never_refreshes_and_the_original_lives_on(
    ground: Ground, provider: Provider, instances: Instances, tmp_path: Path
) -> None:
    """Cloned while in use: the copy serves what lives, asks nobody for more, and says what it is (R117, design 6)."""
    original, grant = await _connected(ground, provider, instances)
    busy = [original.begin("get", callers=20) for _ in range(5)]
    clone = await ground.clone(tmp_path / "clone")
    await asyncio.gather(*busy)
    copy = await instances.start(clone.config, clone.data_dir)
    before = provider.token_requests()

    assert (await copy.ask("get", callers=3))["tokens"] == {grant["access_token"]: 3}
    assert (await copy.ask("connections"))["main"]["state"] == "frozen"
    await clone.expire()
    refused = await copy.ask("get", callers=20, look=True)
    assert not refused["tokens"]
    assert refused["errors"], refused
    assert provider.token_requests() == before

    await ground.expire()
    renewed = await original.ask("get", callers=20, look=True)
    assert not renewed["errors"]
    assert provider.token_requests() == before + 1
    assert provider.is_alive(grant["refresh_token"])
    await clone.expire()
    await copy.ask("get", callers=20, look=True)
    assert provider.token_requests() == before + 1
    assert provider.is_alive(grant["refresh_token"])
    await original.close()
    await copy.close()


async def test_adopting_moves_a_vault(
    ground: Ground, provider: Provider, instances: Instances, tmp_path: Path
) -> None:
    """After ``vault adopt`` the copy is the original: it refreshes, and the grant lives."""
    original, grant = await _connected(ground, provider, instances)
    clone = await ground.clone(tmp_path / "clone")
    await original.close()
    moved = await instances.start(clone.config, clone.data_dir)
    await clone.expire()
    before = provider.token_requests()
    assert not (await moved.ask("get", look=True))["tokens"]
    assert await moved.ask("adopt") == {"adopted": True}
    renewed = await moved.ask("get", callers=20, look=True)
    assert sum(renewed["tokens"].values()) == 20, renewed
    assert provider.token_requests() == before + 1
    assert provider.accepts(next(iter(renewed["tokens"])))
    assert provider.is_alive(grant["refresh_token"])
    assert (await moved.ask("connections"))["main"]["state"] == "active"
    await moved.close()
