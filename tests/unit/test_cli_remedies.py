"""Commands that the program tells a person can be pasted: they find the vault that the running one found."""

import pytest

from proxy.cli.remedies import carrying, given

CONFIG, DATA, URL = ("--config", "a b.toml"), ("--data-dir", "/srv/x"), ("--url", "https://proxy.example")

ALL = "--config 'a b.toml' --data-dir /srv/x --url https://proxy.example"


@pytest.mark.parametrize(
    ("args", "found"),
    [
        (["connect", "slack", "--config", "a b.toml"], (CONFIG,)),
        (["connect", "--data-dir=/srv/x", "--url", "https://proxy.example", "slack"], (DATA, URL)),
        (["run", "--config", "a b.toml", "--", "tool", "--data-dir", "/theirs"], (CONFIG,)),
        (["keys", "list", "--config"], ()),
        (["check"], ()),
    ],
)
def test_options_are_found_in_a_command_line(args: list[str], found: tuple[object, ...]) -> None:
    """With a space or ``=``, before ``--`` only: what comes after it is another program's."""
    assert given(args) == found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "not connected: 'connector-proxy connect slack --connection x'.",
            f"not connected: 'connector-proxy connect {ALL} slack --connection x'.",
        ),
        (
            "connector-proxy connect github --access-token-stdin < token",
            f"connector-proxy connect {ALL} github --access-token-stdin < token",
        ),
        (
            "'connector-proxy vault sign'",
            "'connector-proxy vault sign --config 'a b.toml' --data-dir /srv/x'",
        ),
        (
            "connector-proxy keys list --config other.toml",
            "connector-proxy keys list --data-dir /srv/x --url https://proxy.example --config other.toml",
        ),
        ("connector-proxy: it failed", "connector-proxy: it failed"),
        ("connector-proxy connection", "connector-proxy connection"),
    ],
)
def test_commands_in_a_text_carry_the_options(text: str, told: str) -> None:
    """Right after the command's words, quoted for a shell; those that it does not know or has already are left out."""
    assert carrying(text, (CONFIG, DATA, URL)) == told
    assert carrying(text, ()) == text
