"""django-oauth-toolkit in a process of its own: see ``toolkit_server`` for how it is set up."""

import os
import sys
from pathlib import Path

from support.providers.real import REDIRECT_URI, Provider

_SERVER = Path(__file__).with_name("toolkit_server.py")


class Toolkit(Provider):
    """Rotation, reuse detection, PKCE required, no grace; ``adjust(grace_s=10)`` makes it lenient."""

    name = "django-oauth-toolkit"
    authorize_path, token_path, revoke_path = "/o/authorize/", "/o/token/", "/o/revoke_token/"

    def command(self, ready: Path) -> list[str]:
        words = (self.folder, ready, self.client_id, self.client_secret, REDIRECT_URI)
        return [sys.executable, str(_SERVER), *map(str, words)]

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        return {**kept, "PYTHONUNBUFFERED": "1"}

    def _decide(self, address: str, user: str, *, allow: bool) -> str:
        path = "/" + address.split("/", 3)[3]
        headers = {"X-Scripted-User": user, "X-Scripted-Answer": "yes" if allow else "no"}
        status, answered, body = self.call("GET", path, headers=headers)
        assert status == 302, (status, body[:500])
        return str(answered["Location"])
