"""What was done and what came of it, counted; the tables at the end."""

import time
from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

MOST_UNJUDGED = 0.02  # of the rounds


@dataclass(slots=True)
class Row:
    """One kind of rounds on one ground."""

    outcomes: Counter[str] = field(default_factory=Counter)
    took_s: float = 0.0

    def __str__(self) -> str:
        return ", ".join(f"{number} {name}" for name, number in self.outcomes.most_common())


@dataclass(slots=True)
class Tally:
    """Rows by (what, where); ``losses``: one sentence each, and none is what a run has to come to.

    ``unjudged``: rounds that the machine was too slow to play to their end, after which nothing was missing.
    """

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)
    acknowledged: int = 0
    calls: int = 0
    token_requests: int = 0
    begun: float = field(default_factory=time.monotonic)

    def count(self, what: str, where: str, outcome: str, took_s: float = 0.0) -> None:
        """One round is over."""
        row = self.rows.setdefault((what, where), Row())
        row.outcomes[outcome] += 1
        row.took_s += took_s

    def lose(self, where: str, what: str) -> None:
        """Something is not as it has to be."""
        self.losses.append(f"{where}: {what}")

    @property
    def status(self) -> int:
        """Exit status: 1 something was lost, 2 too many rounds say nothing."""
        if self.losses:
            return 1
        return 2 if len(self.unjudged) > MOST_UNJUDGED * self.rounds else 0

    @property
    def rounds(self) -> int:
        return sum(row.outcomes.total() for row in self.rows.values())

    def show(self, console: Console, seed: int) -> None:
        """The table, the sums, and every loss."""
        places = list(dict.fromkeys(where for _, where in self.rows))
        table = Table(title=f"chaos, seed {seed}: rounds and outcomes", title_justify="left")
        table.add_column("what")
        for place in places:
            table.add_column(place)
        table.add_column("s", justify="right")
        for what in dict.fromkeys(what for what, _ in self.rows):
            cells = [str(self.rows.get((what, place), "")) for place in places]
            took = sum(row.took_s for (name, _), row in self.rows.items() if name == what)
            table.add_row(what, *cells, f"{took:.0f}")
        console.print(table)
        for sentence in self.unjudged:
            console.print(f"[yellow]not judged[/yellow] {sentence}", soft_wrap=True)
        for loss in self.losses:
            console.print(f"[red]lost[/red] {loss}", soft_wrap=True)
        console.print(
            f"rounds {self.rounds}, acknowledged writes {self.acknowledged}, calls {self.calls}, "
            f"token requests {self.token_requests}, not judged {len(self.unjudged)}, lost = {len(self.losses)}, "
            f"{time.monotonic() - self.begun:.0f} s"
        )
