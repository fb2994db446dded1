"""The demo: a whole proxy on free ports, in a folder of its own, before a service that exists only here."""

import asyncio
import json
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from proxy import lifecycle, log
from proxy.app import opened
from proxy.assembly.inforce import catalog_of
from proxy.assembly.vaults import open_vault
from proxy.connectors.model import Tokens
from proxy.connectors.passwords import hashed, new_password
from proxy.firstrun import base_url
from proxy.instance import write_private
from proxy.operations.keys import KeyRequest, create_key
from proxy.sandbox import (
    CLIENT_ID,
    CONFIG,
    HOST,
    SERVICE,
    Sandbox,
    Seen,
    make_certificate,
    service_file,
)
from proxy.secret import Secret
from proxy.settings import Settings, load_settings

PATH = f"/{SERVICE}/v1/whoami"
_PATIENCE_S = 5.0
_OK = 200


@dataclass(frozen=True, slots=True)
class Call:
    """The first call through the proxy, from all three sides. ``seen`` None: it never arrived."""

    url: str
    key: str
    status: int
    answer: str
    seen: Seen | None
    token: str

    @property
    def ok(self) -> bool:
        """The service got its token and nothing of the key; the caller its answer, not the token."""
        if self.seen is None or self.status != _OK or self.token in self.answer:
            return False
        received = [value for _, value in self.seen.fields]
        return f"Bearer {self.token}" in received and not any(self.key in value for value in received)


@dataclass(frozen=True, slots=True)
class Ready:
    """What a person may use while the demo runs."""

    base: str
    control: str
    password: str
    config: Path
    call: Call


class Demo:
    """Runs until a signal, or until the first call when ``once``.

    Args:
        once: end after the first call.
        on_ready: told when the first call is done.
        on_request: told about every further request that reaches the sandbox.
    """

    def __init__(
        self, *, once: bool, on_ready: Callable[[Ready], None], on_request: Callable[[Seen], None]
    ) -> None:
        self._once = once
        self._on_ready = on_ready
        self._on_request = on_request
        self._token = f"sandbox-token-{secrets.token_hex(8)}"
        self._password = new_password()
        self._first: Seen | None = None
        self._is_ready = False
        self._call: asyncio.Task[None] | None = None

    async def run(self) -> bool:
        """The whole demo; True when the first call went as it should.

        Raises:
            ConfigurationError, StateError: it could not start.
        """
        with tempfile.TemporaryDirectory(prefix="connector-proxy-demo-") as name:
            folder = Path(name)
            certificate = await asyncio.to_thread(make_certificate, folder)
            app_secret = secrets.token_urlsafe(24)
            sandbox = Sandbox(certificate, self._token, self._received, app_secret=app_secret)
            await sandbox.start()
            try:
                return await self._run(folder, _write_settings(folder, certificate, sandbox, app_secret))
            finally:
                await sandbox.stop()

    async def _run(self, folder: Path, config: Path) -> bool:
        def load() -> Settings:
            return load_settings(config, {})

        settings = load()
        key = await self._prepare(settings)
        output = log.configure(settings.log.format, settings.log.level)
        good: list[bool] = []

        def started(app: lifecycle.Running) -> None:
            self._call = asyncio.get_running_loop().create_task(first_call(app))

        async def first_call(app: lifecycle.Running) -> None:
            try:
                call = await self._try(f"{base_url(app.sockets)}{PATH}", key)
                good.append(call.ok)
                control = settings.control.origin(app.sockets.addresses()["control"])
                self._is_ready = True
                self._on_ready(
                    Ready(
                        base_url(app.sockets),
                        control,
                        self._password.reveal(),
                        folder / config.name,
                        call,
                    )
                )
            finally:
                if self._once or not good:
                    server.stop()

        server = lifecycle.Server(
            settings,
            load,
            lambda given, catalog, on_taken: opened(given, catalog, output, on_taken),
            folder_given=True,
            on_ready=started,
        )
        await server.run()
        if self._call is not None:
            await self._call
        return good == [True]

    async def _prepare(self, settings: Settings) -> Secret:
        """Connect the sandbox and make a key for it, as a person would from the command line."""
        catalog = catalog_of(settings)
        vault = await open_vault(settings, catalog)
        try:
            await vault.save_connection(
                SERVICE, "default", Tokens(Secret(self._token)), config=CONFIG, actor="demo"
            )
            await vault.set_password(hashed(self._password), actor="demo")
            _, key = await create_key(
                vault, catalog, KeyRequest("demo", [SERVICE]), now=time.time(), actor="demo"
            )
        finally:
            await vault.close()
        return key

    async def _try(self, url: str, key: Secret) -> Call:
        timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
        headers = {"Authorization": f"Bearer {key.reveal()}"}
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.get(url, headers=headers) as answer,
        ):
            text = await answer.text()
            return Call(url, key.reveal(), answer.status, text, self._first, self._token)

    def _received(self, seen: Seen) -> None:
        if self._first is None:
            self._first = seen
        if self._is_ready:
            self._on_request(seen)


def _write_settings(folder: Path, certificate: Path, sandbox: Sandbox, app_secret: str) -> Path:
    """A configuration that leads the sandbox's name to its port, in the clear for whoever wants to look."""
    services = folder / "services"
    services.mkdir()
    (services / f"{SERVICE}.toml").write_text(service_file(sandbox.browser_origin), encoding="utf-8")
    write_private(folder / "app-secret", app_secret)
    config = folder / "proxy.toml"
    config.write_text(
        "\n".join(
            (
                "[data]",
                'listen = ["127.0.0.1:0"]',
                "drain_s = 2",
                "[control]",
                'listen = ["127.0.0.1:0"]',
                "[storage]",
                f"data_dir = {json.dumps(str(folder / 'data'))}",
                "[services]",
                f"directory = {json.dumps(str(services))}",
                "[egress]",
                f"ca_file = {json.dumps(str(certificate))}",
                f'connect_to = {{ "{HOST}:443" = "127.0.0.1:{sandbox.port}" }}',
                f"[registrations.{SERVICE}]",
                f'client_id = "{CLIENT_ID}"',
                f"client_secret = {{ file = {json.dumps(str(folder / 'app-secret'))} }}",
                "[log]",
                'level = "error"',
                "",
            )
        ),
        encoding="utf-8",
    )
    return config
