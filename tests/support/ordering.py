"""Which files begin: those that take long, so that no process is left with one of them at the end."""

from pathlib import Path

import pytest

FIRST = (
    "test_serve_lifecycle",
    "test_workers",
    "test_admin_api_document",
    "test_dashboard_chromium",
    "test_errors",
    "test_canary",
    "test_whole_life",
    "test_verify",
    "test_vault_commands",
    "test_streaming",
    "test_drain",
    "test_hostile_requests",
    "test_admin_api",
    "test_connect_command",
    "test_postgresql",
    "test_websocket",
    "test_oracle",
    "test_retry",
    "test_hostile_answers",
    "test_connect_chromium",
    "test_base44_programs",
    "test_run_command",
    "test_remote_command",
    "test_chaos",
    "test_revocation",
)
_PLACES = {name: place for place, name in enumerate(FIRST)}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The rest stays in its order; xdist keeps this one where it is run with ``--no-loadscope-reorder``."""
    items.sort(key=lambda item: _PLACES.get(Path(item.path).stem, len(FIRST)))
