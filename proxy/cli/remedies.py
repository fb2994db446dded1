"""Commands that are told to a person carry the options by which the running one found its vault. Pure."""

import re
import shlex
from collections.abc import Sequence

_HERE = ("--config", "--data-dir")
_THERE = ("--url", "--token-file", "--ca-file")
_GROUPS = "connections|connectors|keys|registrations|services|tokens|users|vault"
_REACH = frozenset(
    {"audit", "connect", "connections", "connectors", "keys", "registrations", "services", "tokens"}
)
_ALONE = "audit|check|connect|password|run|serve|snippet"
_COMMAND = re.compile(
    rf"connector-proxy (?P<words>(?P<first>{_GROUPS}) [a-z][a-z-]*|(?P<only>{_ALONE}))\b(?P<rest>[^'\n]*)"
)
Given = Sequence[tuple[str, str]]


def given(args: Sequence[str]) -> Given:
    """Those options of a command line that say which vault is meant, with their values, in their order."""
    found: list[tuple[str, str]] = []
    words = list(args[: args.index("--")] if "--" in args else args)
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in (*_HERE, *_THERE) and (equals or at + 1 < len(words)):
            found.append((name, value if equals else words[at + 1]))
    return tuple(found)


def carrying(text: str, options: Given) -> str:
    """The text, in which every command of ours has the options too, as far as it knows them."""
    if not options or "connector-proxy " not in text:
        return text

    def carry(match: re.Match[str]) -> str:
        known = _HERE if (match["first"] or match["only"]) not in _REACH else _HERE + _THERE
        rest = match["rest"]
        added = "".join(
            f" {name} {shlex.quote(value)}"
            for name, value in options
            if name in known and f"{name} " not in rest and f"{name}=" not in rest
        )
        return f"connector-proxy {match['words']}{added}{rest}"

    return _COMMAND.sub(carry, text)
