"""What ``connector-proxy snippet`` prints is run as it is, for the SDKs that are installed here."""

import asyncio
from pathlib import Path

import pytest
from scene import Scene
from support.spellings import spelling_of

from proxy.catalog.loader import load_catalog
from proxy.catalog.recipes import load_recipes
from proxy.snippets import Places, Snippet, snippets_of

CALLS = {
    "slack": ("POST slack.com/api/auth.test",),
    "notion": ("GET api.notion.com/v1/users/me",),
    "github": ("GET api.github.com/user",),
    "googlecalendar": (
        "GET www.googleapis.com/calendar/v3/calendars/primary?alt=json",
        "GET www.googleapis.com/calendar/v3/users/me/calendarList?maxResults=1",
    ),
}


def chosen(scene: Scene, language: str, packages: set[str]) -> list[tuple[str, Snippet]]:
    """Snippets of the services that stand behind the proxy, of SDKs that the tests have, and plain HTTP."""
    host, port = scene.proxy.address
    places = Places(f"http://{host}:{port}")
    recipes, services = load_recipes(), load_catalog().services
    return [
        (type_id, one)
        for type_id in CALLS
        for one in snippets_of(services[type_id], recipes, places, language)
        if one.package in packages and (one.package or type_id == "googlecalendar")
    ]


@pytest.mark.parametrize(
    ("language", "packages"),
    [
        ("python", {"", "slack_sdk", "PyGithub", "notion-client", "google-api-python-client"}),
        pytest.param("node", {"", "@slack/web-api", "@octokit/rest"}, marks=pytest.mark.node),
    ],
)
async def test_snippets_reach_their_service(
    scene: Scene, language: str, packages: set[str], tmp_path: Path
) -> None:
    """Every line printed for the SDKs at hand reaches the service's host, with the key in no request and no name looked up."""
    snippets = chosen(scene, language, packages)
    assert {one.package for _, one in snippets} == packages
    scene.services.fresh()
    await scene.upstream.fresh(scene.services.script)
    trap = tmp_path / "trap.txt"
    slots = asyncio.Semaphore(2)

    async def one_of(snippet: Snippet) -> None:
        async with slots:
            await scene.run_text(snippet.language, snippet.code, trap)

    await asyncio.gather(*(one_of(snippet) for _, snippet in snippets))
    assert not trap.exists()
    arrived = [arrival.call for arrival in scene.services.arrived]
    assert len(arrived) == len(snippets)
    assert set(arrived) <= {call for calls in CALLS.values() for call in calls}
    for type_id, calls in CALLS.items():
        asked = sum(1 for one, _ in snippets if one == type_id)
        assert sum(arrived.count(call) for call in calls) == asked, type_id
    for peer in scene.upstream.peers:
        assert spelling_of(scene.proxy.key, bytes(peer.received)) is None
