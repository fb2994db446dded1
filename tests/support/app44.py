"""The whole server in this process, with accounts in its vault and Base44's calls served for one app."""

import asyncio
import contextlib
import io
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientTimeout
from yarl import URL

from proxy import log
from proxy.app import App, opened
from proxy.assembly.inforce import catalog_of
from proxy.connectors.model import Connection, Tokens
from proxy.connectors.vault import Vault
from proxy.control.base44.asking import ServiceKeys
from proxy.keys import KeyRecord, Kind, digest, generate
from proxy.sandbox import CLIENT_ID, HOST, SERVICE, Sandbox, service_file
from proxy.secret import Secret
from proxy.settings import load_settings
from support.connecting import provider
from support.upstream import Upstream

APP = "65f0c0ffee"
PROBE = "probe"
SERVICES = [PROBE, SERVICE, "github", "linear", "notion", "salesforce", "share_point", "slack", "slackbot"]
STATIC = "canary-linear-static-token"
_PROBE_FILE = """\
title = "Probe"
docs = "https://example.com"
verified = "live"
credential_paths = ["/oauth/**"]
roots = ["/files/"]
[[hosts]]
name = "api"
origin = "http://127.0.0.1:PORT"
[[hosts]]
name = "content"
origin = "http://127.0.0.1:PORT"
[headers]
X-Api-Version = "7"
[rate_limit]
statuses = [429]
[rate_limit.headers]
X-RateLimit-Reset = "seconds"
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call came to."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def document(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str:
        return str(self.document["code"])


@dataclass(slots=True)
class Scene:
    """``url``: of the control plane. ``tokens``: every access token that was ever stored here."""

    app: App
    vault: Vault
    url: str
    data_url: str
    text: io.StringIO
    sandbox: Sandbox
    upstream: Upstream
    session: ClientSession
    tokens: set[str]

    async def key(self, *allow: str, kind: Kind = "service", **more: Any) -> str:
        """A key with these permits, in force when this returns."""
        key_id, key = generate()
        text = key.reveal()
        await self.vault.add_key(
            KeyRecord(key_id, f"key {key_id}", digest(text.encode()), allow, kind=kind, **more)
        )
        self.app.core.on_change()
        return text

    async def connect(
        self,
        service: str,
        name: str = "default",
        *,
        token: str | None = None,
        expires_at: float | None = None,
        refresh: str | None = None,
        **more: Any,
    ) -> Connection:
        """An account with a token of its own."""
        token = token or f"canary-{service}-{name}-{secrets.token_hex(6)}"
        self.tokens.add(token)
        tokens = Tokens(Secret(token), None if refresh is None else Secret(refresh), expires_at=expires_at)
        return await self.vault.save_connection(service, name, tokens, **more)

    def token(self, service: str, name: str | None = None) -> str:
        """The access token that is stored."""
        held = self.vault.snapshot.find(service, name)
        assert held is not None
        assert held.tokens is not None
        return held.tokens.access_token.reveal()

    async def ask(
        self,
        path: str,
        key: str | None = None,
        *,
        method: str = "GET",
        app: str = APP,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Answer:
        """One call: ``path`` under the app's; a body of bytes goes out as it is."""
        sent = {**({} if key is None else {"Authorization": f"Bearer {key}"}), **(headers or {})}
        target = URL(f"{self.url}/api/apps/{app}/{path}", encoded=True)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.request(method, target, headers=sent, data=data) as answer:
            return Answer(answer.status, dict(answer.headers), await answer.text())

    async def token_of(self, service: str, key: str | None) -> Answer:
        """``getConnection``."""
        return await self.ask(f"external-auth/tokens/{service}", key)

    async def audited(self, action: str) -> list[tuple[str, str]]:
        """Actor and subject of each row of an action, oldest first."""
        rows = await self.vault.audit()
        return [(one.actor, one.subject) for one in reversed(rows) if one.action == action]

    async def logged(self, number: int = 1) -> list[dict[str, Any]]:
        """The events of calls, once there are that many."""
        while True:
            events = [json.loads(line) for line in self.text.getvalue().splitlines() if line.endswith("}")]
            found = [one for one in events if one["event"] == "base44_call"]
            if len(found) >= number:
                return found
            await asyncio.sleep(0.01)

    def service_keys(self) -> ServiceKeys:
        """The keys as the calls look them up."""
        return ServiceKeys(lambda: self.vault.snapshot.keys)


def _settings(folder: Path, sandbox: Sandbox, certificate: Path, port: int, app: str | None) -> Path:
    services = folder / "services"
    services.mkdir()
    (services / f"{SERVICE}.toml").write_text(service_file(sandbox.browser_origin))
    (services / f"{PROBE}.toml").write_text(_PROBE_FILE.replace("PORT", str(port)))
    (folder / "app-secret").write_text("canaryAPPSECRET" + "q1w2e3r4t5")
    (folder / "linear-token").write_text(STATIC)
    (folder / "linear-token").chmod(0o600)
    lines = [
        '[data]\nlisten = ["127.0.0.1:0"]',
        '[control]\nlisten = ["127.0.0.1:0"]',
        f"[storage]\ndata_dir = {json.dumps(str(folder / 'data'))}",
        f"[services]\ndirectory = {json.dumps(str(services))}",
        f"enabled = {json.dumps(SERVICES)}",
        f"[egress]\nca_file = {json.dumps(str(certificate))}",
        f'connect_to = {{ "{HOST}:443" = "127.0.0.1:{sandbox.port}" }}',
        'allow_addresses = ["127.0.0.1/32"]',
        f'[registrations.{SERVICE}]\nclient_id = "{CLIENT_ID}"',
        f"client_secret = {{ file = {json.dumps(str(folder / 'app-secret'))} }}",
        '[sources.linear]\nkind = "static"\ntoken = { file = "linear-token" }',
        "[timeouts]\nfirst_byte = 0.5",
        *([] if app is None else [f'[base44]\nserve_app_id = "{app}"']),
    ]
    path = folder / "proxy.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


@contextlib.asynccontextmanager
async def scene(folder: Path, *, app: str | None = APP) -> AsyncIterator[Scene]:
    """A running server with an empty vault; ``app``: the one that is served."""
    upstream = Upstream()
    async with provider(folder) as (sandbox, certificate), upstream.running():
        path = _settings(folder, sandbox, certificate, upstream.port, app)
        settings = load_settings(path, {})
        text = io.StringIO()
        output = log.configure("json", "info", text)
        async with (
            opened(settings, catalog_of(settings), output) as running,
            ClientSession(timeout=ClientTimeout(total=20)) as session,
        ):
            await running.start()
            vault = running.core.vault
            assert vault is not None
            control, data = (
                one[0].getsockname()[1] for one in (running.sockets.control, running.sockets.data)
            )
            try:
                yield Scene(
                    running,
                    vault,
                    f"http://127.0.0.1:{control}",
                    f"http://127.0.0.1:{data}",
                    text,
                    sandbox,
                    upstream,
                    session,
                    {STATIC},
                )
            finally:
                await running.drain(0)
