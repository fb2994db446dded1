"""What all commands print: one JSON document on standard output, or a table; notes go to standard error."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.cli.remedies import Given, carrying, given
from proxy.log import escape

_WIDE = 10_000


@dataclass(slots=True)
class _Running:
    """The command line of this process."""

    options: Given = ()


_running = _Running()


def begin(args: Sequence[str]) -> None:
    """A command line begins; commands in what it prints carry the options by which it finds its vault."""
    _running.options = given(args)


def document(value: object) -> None:
    """The command's whole answer for a program."""
    json.dump(value, sys.stdout, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False)
    sys.stdout.write("\n")


def line(text: str) -> None:
    """A line of the command's answer for a person."""
    sys.stdout.write(carrying(text, _running.options) + "\n")


def note(text: str) -> None:
    """What a person should know besides the answer."""
    sys.stderr.write(carrying(text, _running.options) + "\n")


def changed(folder: Path) -> None:
    """Which vault was changed: every command that changes state says so."""
    note(f"data folder: {folder}")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Rows under headings, if any has a text; ``empty`` is said when there are none. No value is markup."""
    if not rows:
        line(empty)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(Text("" if cell is None else escape(str(cell))) for cell in row))
    width = None if sys.stdout.isatty() else _WIDE  # through a pipe a row is one line, for grep and awk
    Console(file=sys.stdout, width=width, highlight=False).print(shown)


def pairs(values: Mapping[str, object]) -> str:
    """``k=v`` joined, for a table's cell."""
    return " ".join(f"{name}={value}" for name, value in values.items())
