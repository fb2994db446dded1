"""The settings' documentation, made from their declaration: ``config/proxy.toml`` and the README's table.

``python -m proxy.settings.document > config/proxy.toml`` writes the file anew; ``--table`` prints the table.
"""

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from proxy.settings.model import Settings
from proxy.settings.spec import Entries, Named, Section, Spec, nodes

_HEAD = """\
# Every setting of connector-proxy with its default. Lines that begin with "#: " are examples of settings
# that have no default or an empty one. Paths count from this file's folder. The environment comes before
# this file: CONNECTOR_PROXY_SECTION__KEY, with two underscores; lists and tables as JSON. The command line
# comes before both.
"""
_WIDTH = 110
EXAMPLE = "#: "


def toml_value(value: object) -> str:
    """A raw value as TOML on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml_key(str(k))} = {toml_value(v)}" for k, v in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False)


def _toml_key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() else json.dumps(key)


def reference_toml() -> str:
    """The text of ``config/proxy.toml``."""
    return _HEAD + "".join(_section(Settings, (), "")).rstrip() + "\n"


def _section(cls: type[Any], at: tuple[str, ...], mark: str) -> Iterator[str]:
    declared = nodes(cls)
    leaves = {name: node for name, node in declared.items() if isinstance(node, Spec)}
    if leaves:
        title = (cls.__doc__ or "").partition(": ")[2]
        yield f"\n{_comment(title[:1].upper() + title[1:])}{mark}[{'.'.join(at)}]\n"
        for name, spec in leaves.items():
            yield _comment(_sentence(spec))
            if spec.example is not None and (mark or not spec.default):
                yield f"{EXAMPLE}{name} = {toml_value(spec.example)}\n"
            else:
                yield f"{mark}{name} = {toml_value(spec.default)}\n"
    for name, node in declared.items():
        if isinstance(node, Section):
            yield from _section(node.cls, (*at, name), mark)
        elif isinstance(node, Named):
            yield from _section(node.cls, (*at, name, node.example), EXAMPLE)
        elif isinstance(node, Entries):
            yield f"\n{_comment(node.spec.help)}[{name}]\n"
            yield f"{EXAMPLE}{node.example} = {toml_value(node.spec.example)}\n"


def _sentence(spec: Spec) -> str:
    unit = f" In {spec.unit}." if spec.unit else ""
    short = f" Environment: {spec.env}." if spec.env else ""
    return f"{spec.help}{unit} ({spec.kind.name}){short}"


def _comment(text: str) -> str:
    plain = " ".join(text.replace("``", "").replace("`", "").split())
    return "".join(f"# {line}\n" for line in textwrap.wrap(plain, _WIDTH - 2))


def settings_table() -> str:
    """Every setting as a Markdown table: name, default, unit, help."""
    lines = ["| setting | default | unit | what it is |", "| --- | --- | --- | --- |"]
    lines.extend(_rows(Settings, ()))
    return "\n".join(lines) + "\n"


def _rows(cls: type[Any], at: tuple[str, ...]) -> Iterator[str]:
    for name, node in nodes(cls).items():
        if isinstance(node, Spec):
            yield _row((*at, name), node)
        elif isinstance(node, Section):
            yield from _rows(node.cls, (*at, name))
        elif isinstance(node, Named):
            yield from _rows(node.cls, (*at, name, node.placeholder))
        else:
            yield _row((*at, name, node.placeholder), node.spec)


def _row(at: tuple[str, ...], spec: Spec) -> str:
    default = "" if spec.default is None else f"`{toml_value(spec.default)}`"
    return f"| `{'.'.join(at)}` | {default} | {spec.unit} | {spec.help} |".replace("|  |", "| |")


if __name__ == "__main__":
    sys.stdout.write(settings_table() if sys.argv[1:] == ["--table"] else reference_toml())
