"""What was done and what came of it, counted; the tables at the end."""

import time
from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


@dataclass(slots=True)
class Row:
    """One kind of rounds on one ground."""

    rounds: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    took_s: float = 0.0


@dataclass(slots=True)
class Tally:
    """Rows by (what, where); ``losses``: one sentence each, and none is what a run has to come to."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)
    acknowledged: int = 0
    calls: int = 0
    token_requests: int = 0
    begun: float = field(default_factory=time.monotonic)

    def count(self, what: str, where: str, outcome: str, took_s: float = 0.0) -> None:
        """One round is over."""
        row = self.rows.setdefault((what, where), Row())
        row.rounds += 1
        row.outcomes[outcome] += 1
        row.took_s += took_s

    def lose(self, where: str, what: str) -> None:
        """Something is not as it has to be."""
        self.losses.append(f"{where}: {what}")

    @property
    def rounds(self) -> int:
        return sum(row.rounds for row in self.rows.values())

    def show(self, console: Console, seed: int) -> None:
        """The table, the sums, and every loss."""
        table = Table(title=f"chaos, seed {seed}", title_justify="left")
        for name, justify in (("what", "left"), ("on", "left"), ("rounds", "right"), ("outcomes", "left")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]  # two of rich's words
        table.add_column("s", justify="right")
        for (what, where), row in self.rows.items():
            outcomes = ", ".join(f"{name} {number}" for name, number in row.outcomes.most_common())
            table.add_row(what, where, str(row.rounds), outcomes, f"{row.took_s:.0f}")
        console.print(table)
        for loss in self.losses:
            console.print(f"[red]lost[/red] {loss}", soft_wrap=True)
        console.print(
            f"rounds {self.rounds}, acknowledged writes {self.acknowledged}, calls {self.calls}, "
            f"token requests {self.token_requests}, lost = {len(self.losses)}, "
            f"{time.monotonic() - self.begun:.0f} s"
        )
