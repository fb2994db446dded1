"""All SDKs in one process a language, the proxy, and the services behind it; everything that passes is kept.

::

    SDK --tap--> connector-proxy --TLS--> every host of the service that the SDK is for

An SDK's process is asked for one scenario after the other (``tour.py``, ``tour.mjs``). Each has taps of its own,
so that what one received is not taken for what another did.
"""

import asyncio
import contextlib
import hashlib
import importlib
import json
import os
import pkgutil
import ssl
import sys
from pathlib import Path

import played
from acting import SCENARIO_LIMIT, TRAPS, Actor
from outcomes import SDKS, Outcome, Sdk, Started, Step
from playing import Played, Stagehand
from support.certificates import Authority
from support.proxy import ProxyProcess, bound
from support.raw import Address
from support.tap import Tap
from support.upstream import Upstream

from proxy import keys, launch, localca
from proxy.catalog.loader import load_catalog

HERE = Path(__file__).parent
LEAVES_TRACES = frozenset({"salesforce-jsforce"})
"""SDKs that change what others find: jsforce brings an undici of its own and makes it everybody's."""


def services() -> dict[str, Played]:
    """Every played service by its type id: the modules of ``played/``."""
    names = [found.name for found in pkgutil.iter_modules(played.__path__)]
    return {name: importlib.import_module(f"played.{name}").SERVICE for name in names}


def catalog_hosts() -> set[str]:
    """Every host of every service that has one name for all accounts: a call that strays is seen, whatever it strays to."""
    services = load_catalog().services.values()
    origins = (
        host.origin.build({}, service=one.type_id)
        for one in services
        for host in one.hosts
        if host.origin.is_fixed
    )
    return {origin.host for origin in origins}


class Stage:
    """The proxy, the services and the processes, for all SDKs in turn.

    Args:
        authority: signs the services' certificate.
        folder: an empty folder.
    """

    def __init__(self, authority: Authority, folder: Path) -> None:
        self._folder = folder
        self._authority = authority
        self._services = services()
        self._hand = Stagehand()
        hosts = sorted(catalog_hosts().union(*(one.hosts for one in self._services.values())))
        self._upstream = Upstream(authority.server(*hosts))
        self._hosts = hosts
        self.narrow = keys.generate()[1].reveal()
        self._rooted = {name: keys.generate()[1].reveal() for name in self._services}
        self._proxy: ProxyProcess | None = None
        self._tls: tuple[Address, ssl.SSLContext, ssl.SSLContext] | None = None
        self._taps: dict[Sdk, tuple[Tap, Tap]] = {}
        self._actors: dict[str, Actor] = {}
        self.outcomes: dict[Sdk, Outcome] = {}
        self._open = contextlib.AsyncExitStack()

    @property
    def proxy(self) -> ProxyProcess:
        assert self._proxy is not None
        return self._proxy

    @property
    def secrets(self) -> tuple[str, ...]:
        """All keys that an SDK presents."""
        return self.proxy.key, self.narrow, *self._rooted.values()

    @property
    def tokens(self) -> tuple[str, ...]:
        """All tokens that the proxy holds."""
        return tuple(one.token for one in self._services.values())

    async def start(self) -> None:
        """Starts the services and configures the proxy, whose process starts by ``with stage.proxy``."""
        await self._upstream.start()
        declared = {
            "keys.narrow": {"hash": _hashed(self.narrow), "allow": [*_READING]},
            **{
                f"keys.root_{name}": {"hash": _hashed(key), "allow": [name], "root": name}
                for name, key in self._rooted.items()
            },
        }
        sources = {
            f"sources.{name}": dict(one.settings) for name, one in self._services.items() if one.settings
        }
        self._proxy = ProxyProcess(
            self._folder / "proxy",
            ca_file=self._authority.ca_file,
            connect_to={f"{host}:443": self._upstream.address for host in self._hosts},
            allow=tuple(self._services),
            settings={
                **declared,
                **sources,
                "egress": {"allow_addresses": ["127.0.0.1/32"]},
                "data.tls": {"listen": "127.0.0.1:0"},
            },
            environment={
                f"CONNECTOR_PROXY_TOKEN_{name.upper()}": one.token for name, one in self._services.items()
            },
        )

    async def open(self) -> None:
        """The taps and the processes, once the proxy listens."""
        data = self.proxy.data_dir
        told = json.loads((data / "server.json").read_text(encoding="utf-8"))
        presents = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        presents.load_cert_chain(data / localca.LEAF_NAME)
        trusts = ssl.create_default_context(cafile=localca.certificate_path(data))
        for sdk in SDKS:
            plain = Tap(self.proxy.address)
            coded = Tap(bound(told["tls"]), (presents, trusts))
            self._taps[sdk] = (plain, coded)
            for tap in (plain, coded):
                await self._open.enter_async_context(tap.running())
        environment = self._environment()
        for language in ("python", "node"):
            (self._folder / language).mkdir()
            self._actors[language] = Actor(language, environment, self._folder / language)

    async def stop(self) -> None:
        for actor in self._actors.values():
            await actor.stop()
        await self._open.aclose()
        await self._upstream.stop()

    async def outcome(self, sdk: Sdk) -> Outcome:
        """What the SDK does; it is run once and remembered."""
        if sdk not in self.outcomes:
            self.outcomes[sdk] = await self._run(sdk)
        return self.outcomes[sdk]

    async def _run(self, sdk: Sdk) -> Outcome:
        plain, coded = self._taps[sdk]
        actor, trap = self._actors[sdk.language], self._folder / "trap.txt"
        trap.unlink(missing_ok=True)
        await self._play(sdk.service)
        task = {
            "name": sdk.name,
            "http": f"http://127.0.0.1:{plain.port}",
            "tls": f"https://127.0.0.1:{coded.port}",
            "key": self.proxy.key,
            "narrow": self.narrow,
            "rooted": self._rooted[sdk.service],
            "ca_file": str(localca.certificate_path(self.proxy.data_dir)),
        }
        told = await actor.ask(task)
        if sdk.name in LEAVES_TRACES:
            await actor.stop()
        broken = (Step("scenario", "", False, told["broken"]),) if "broken" in told else ()
        return Outcome(
            package=told.get("package", sdk.name),
            version=told.get("version", ""),
            without=told.get("without", {}),
            steps=(*(Step(**one) for one in told.get("steps", ())), *broken),
            output=actor.output(),
            trapped=tuple(trap.read_text(encoding="utf-8").splitlines()) if trap.exists() else (),
            calls=tuple(self._hand.calls),
            faults=tuple(self._hand.faults),
            recorded=tuple(bytes(peer.received) for peer in self._upstream.peers),
            dirt=tuple(self._upstream.dirt()),
            conversations=(*plain.conversations, *coded.conversations),
        )

    async def started(self, service: str, program: list[str], trap: Path) -> Started:
        """``connector-proxy run`` with a program that calls one service."""
        await self._play(service)
        told = json.loads((self.proxy.data_dir / "server.json").read_text(encoding="utf-8"))
        ports = [self.proxy.address[1], bound(told["tls"])[1]]
        where = ("--config", str(self.proxy.config), "--data-dir", str(self.proxy.data_dir))
        guarded = [f"{name}={value}" for name, value in _guarded(ports, trap).items()]
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "proxy", "run", *where, "--service", service, "--"),
            *("env", *guarded, *program),
            env=self.proxy.environment,
            cwd=HERE,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(child.communicate(), SCENARIO_LIMIT)
        return Started(
            child.returncode or 0,
            out.decode(),
            err.decode(),
            tuple(self._hand.calls),
            tuple(self._hand.faults),
            tuple(bytes(peer.received) for peer in self._upstream.peers),
        )

    async def _play(self, service: str) -> None:
        self._hand.play(self._services[service])
        await self._upstream.fresh(self._hand.script)

    def _environment(self) -> dict[str, str]:
        """Nothing of this process's environment that an SDK would read; trust as ``connector-proxy run`` gives it."""
        ports = [tap.port for taps in self._taps.values() for tap in taps]
        bare = {
            "PATH": os.defpath,
            "HOME": str(self._folder),
            "LANG": "C.UTF-8",
            **_guarded(ports, self._folder / "trap.txt"),
        }
        return launch.trusting(bare, localca.certificate_path(self.proxy.data_dir), self._folder)


def _guarded(ports: list[int], trap: Path) -> dict[str, str]:
    """The variables with which a program reaches these ports of loopback and nothing else."""
    allowed = ",".join(f"127.0.0.1:{port}" for port in ports)
    return {"PYTHONPATH": str(TRAPS), "SDK_ALLOWED": allowed, "SDK_TRAP": str(trap)}


_READING = ("*:GET",)
"""What the second key may do: look. Services that are written to by GET, and read by POST, are not for it."""


def _hashed(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
