"""``users``: who signs in besides the first one."""

from pathlib import Path

import pytest
from support.commands import Inside


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Commands with a data folder of their own."""
    return Inside(tmp_path, capsys, monkeypatch)


def test_a_user_comes_changes_and_goes(cli: Inside) -> None:
    """Added with a password that is shown alone on standard output, given another role and password, removed (R93)."""
    first = cli("users", "add", "ada", "--role", "operator", "--email", "Ada@Example.com")
    assert first.code == 0
    password = first.out.strip()
    assert password not in first.err
    told = cli("users", "list", "--json").document
    assert [(one["name"], one["role"], one["email"], one["has_password"]) for one in told] == [
        ("ada", "operator", "ada@example.com", True)
    ]
    assert cli("users", "role", "ada", "--role", "admin").out == "ada is admin now.\n"
    assert cli("users", "password", "ada").out.strip() != password
    assert "ada" in cli("users", "list").out
    assert cli("users", "remove", "ada").code == 0
    assert cli("users", "list").out == "nobody but admin\n"
    stored = b"".join(path.read_bytes() for path in cli.data.iterdir() if path.is_file())
    assert password.encode() not in stored


def test_a_user_without_a_password(cli: Inside) -> None:
    """One that signs in elsewhere needs the address that the identity provider knows; nothing is shown then."""
    assert "email" in cli("users", "add", "carl", "--no-password").err
    done = cli("users", "add", "carl", "--no-password", "--email", "carl@example.com", "--json")
    assert done.document == {"name": "carl", "password": None}
    assert not cli("users", "list", "--json").document[0]["has_password"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("add", "Ada"), "name"),
        (("add", "admin"), "always there"),
        (("add", "eve", "--role", "owner"), "role"),
        (("role", "nobody", "--role", "viewer"), "no such user"),
        (("password", "nobody"), "no such user"),
        (("remove", "nobody"), "no such user"),
    ],
)
def test_what_makes_no_sense_is_named(cli: Inside, args: tuple[str, ...], said: str) -> None:
    """A wrong name, role or user ends with status 1 to 3 and one sentence that says which."""
    assert cli("users", "add", "bob").code == 0
    done = cli("users", *args)
    assert done.code in {1, 2, 3}
    assert said in done.err
    assert [one["name"] for one in cli("users", "list", "--json").document] == ["bob"]
