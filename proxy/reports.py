"""What the workers of one server have reported, added up."""

from collections.abc import Iterable, Iterator, Mapping

from proxy.exposition import Tally, added
from proxy.forwarding.headroom import Told
from proxy.supervised import Supervised


class Reports:
    """Of all workers there were: counters, uses of keys, what services told, how far they are."""

    def __init__(self) -> None:
        self.deaths = 0
        self._retired: Tally = {}
        self._uses: dict[str, float] = {}
        self._account_uses: dict[str, float] = {}
        self._budgets: list[Told] = []
        self._mark = -1

    def take_in(self, worker: Supervised) -> None:
        """When keys and connections were used last, and what services told it, as far as it has told."""
        for told, kept in ((worker.uses, self._uses), (worker.account_uses, self._account_uses)):
            for name, when in told.items():
                kept[name] = max(when, kept.get(name, when))
            told.clear()
        self._budgets += worker.budgets
        worker.budgets.clear()

    def take_uses(self) -> Mapping[str, float]:
        """What was told since the last time: key id to epoch seconds."""
        uses, self._uses = self._uses, {}
        return uses

    def take_account_uses(self) -> Mapping[str, float]:
        """The same of connections, by id."""
        uses, self._account_uses = self._account_uses, {}
        return uses

    def take_budgets(self) -> list[Told]:
        """What services told of calls left, since the last time."""
        budgets, self._budgets = self._budgets, []
        return budgets

    def retire(self, worker: Supervised) -> None:
        """Keep what a worker that has ended had counted."""
        if worker.tally is not None:
            self._retired = added(self._retired, worker.tally["counters"])

    def tallies(self, workers: Iterable[Supervised]) -> Iterator[Tally]:
        """The counts of those that ended, as one, and of each that runs."""
        if self._retired:
            yield {"counters": self._retired, "gauges": {}}
        yield from (one.tally for one in workers if one.tally is not None)

    def settle(self, own: int, workers: Iterable[Supervised]) -> int | None:
        """Let in who has what all others have.

        Args:
            own: the change of the vault that this process has.
            workers: those that run.

        Returns:
            the change that is in force in every process by now, where that is news.
        """
        self._mark = min(self._mark, own)  # an older state of the database took its place: fail-over, restore
        running = tuple(workers)
        for worker in running:
            if worker.state == "loaded" and worker.taken >= self._mark and not worker.may_go:
                worker.may_go = True
                worker.send("go")
        counted = [worker.taken for worker in running if worker.may_go and worker.state != "ending"]
        mark = min((own, *counted))
        if mark <= self._mark:
            return None
        self._mark = mark
        return mark
