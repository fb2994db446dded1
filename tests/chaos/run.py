"""``make chaos``: the program is killed, cut off and refused, hundreds of times; nothing acknowledged may be lost.

Seeded (``--seed``), counted, bounded: a full run takes about ten minutes on two cores. Exit status 1 on any loss, 2
where the machine was too slow to judge more than one round in fifty.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rounds import SHORT, Plan, chaos


def main() -> int:
    """Parses, runs, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=None, help="repeat a run; by default another one each time"
    )
    parser.add_argument("--rounds", type=int, default=None, help="random kills; all else in proportion")
    parser.add_argument("--short", action="store_true", help="the version of the test suite")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**6)
    plan = (
        SHORT
        if given.short
        else Plan()
        if given.rounds is None
        else Plan().scaled(given.rounds / Plan().random)
    )
    console = Console() if sys.stdout.isatty() else Console(width=120)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        tally = asyncio.run(
            chaos(plan, seed, Path(folder), lambda text: console.print(f"[dim]{text} ...[/dim]"))
        )
    tally.show(console, seed)
    return tally.status


if __name__ == "__main__":
    sys.exit(main())
