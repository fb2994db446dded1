"""The user's catalog file of a provider that plays both the service and its authorization server."""

import json
from collections.abc import Mapping

Value = str | int | bool | list[str] | Mapping[str, str]


def catalog_entry(origin: str, oauth: Mapping[str, Value], *, title: str = "Test", more: str = "") -> str:
    """The TOML of a service at ``origin`` with ``[oauth]`` and a verify call; ``more`` is appended as it is."""
    lines = [
        f'title = "{title}"',
        'docs = "https://example.com/docs"',
        'console = "https://example.com/apps"',
        'verified = "live"',
        "[[hosts]]",
        'name = "api"',
        f'origin = "{origin}"',
        "[verify]",
        'path = "/api/me"',
        'id_path = "id"',
        'name_path = "name"',
        "[oauth]",
        *(f"{key} = {_toml(value)}" for key, value in oauth.items()),
        "[[failure.dead]]",
        'on = "token"',
        "status = 400",
        'path = "error"',
        'codes = ["invalid_grant"]',
    ]
    return "\n".join([*lines, more, ""])


def _toml(value: Value) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {json.dumps(text)}" for name, text in value.items()) + " }"
    return json.dumps(value)
