"""Mutated answers against three parsers, as many as you like: ``python tests/fuzz_answers.py [COUNT] [SEED]``.

The same loop as in ``properties/test_answer_differential.py``; prints what disagrees and ends with 1.
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

from support.answers import disagreement, mutations


def main() -> int:
    """Runs the loop."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    began, found = time.monotonic(), 0
    for data, method, closed in mutations(count, seed):
        wrong = disagreement(data, method, closed=closed)
        if wrong is not None:
            found += 1
            print(f"{method!r} closed={closed} {data!r}\n    {wrong}", flush=True)
    print(f"{count} answers, seed {seed}, {time.monotonic() - began:.0f} s: {found} disagreements")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
