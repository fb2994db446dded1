"""The README's five SDKs: its very lines are run, and two of them are all that changes."""

from pathlib import Path

import pytest
from scene import Scene
from support.documents import README, Block, blocks
from support.spellings import spelling_of

README_ADDRESS = "http://localhost:8080"
CALLS = {
    "slack_sdk": "POST slack.com/api/auth.test",
    "googleapiclient": "GET www.googleapis.com/calendar/v3/calendars/primary?alt=json",
    "notion_client": "GET api.notion.com/v1/users/me",
    "@octokit/rest": "GET api.github.com/user",
    "@slack/web-api": "POST slack.com/api/auth.test",
}


def switched() -> dict[str, Block]:
    """The README's differences by the package that they import."""
    found = {}
    for block in blocks(README, "diff"):
        (package,) = (
            name for name in CALLS if f"from {name}" in block.text or f'from "{name}"' in block.text
        )
        found[package] = block
    return found


def after(block: Block) -> str:
    """The program with the lines that are added and without those that go."""
    lines = block.text.splitlines()
    return "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))


def is_node(block: Block) -> bool:
    return "process.env" in block.text


def test_two_lines_each() -> None:
    """Each of the five changes one line, the token, and adds another, the address."""
    assert switched().keys() == CALLS.keys()
    for block in switched().values():
        marks = [line[:1] for line in block.text.splitlines()]
        assert (marks.count("-"), marks.count("+")) == (1, 2)
        assert set(marks) <= {"-", "+", " ", ""}


@pytest.mark.parametrize("language", ["python", pytest.param("node", marks=pytest.mark.node)])
async def test_the_lines_work(scene: Scene, language: str, tmp_path: Path) -> None:
    """As they stand, but for the port: each call reaches its service's host with the real token, none with the key (R31)."""
    chosen = {name: one for name, one in switched().items() if is_node(one) == (language == "node")}
    assert len(chosen) >= 2
    host, port = scene.proxy.address
    program = "".join(after(block) for block in chosen.values())
    assert program.count(README_ADDRESS) == len(chosen)
    scene.services.fresh()
    await scene.upstream.fresh(scene.services.script)
    trap = tmp_path / "trap.txt"
    await scene.run_text(language, program.replace(README_ADDRESS, f"http://{host}:{port}"), trap)
    assert not trap.exists()
    assert [arrival.call for arrival in scene.services.arrived] == [CALLS[name] for name in chosen]
    for peer in scene.upstream.peers:
        assert spelling_of(scene.proxy.key, bytes(peer.received)) is None
