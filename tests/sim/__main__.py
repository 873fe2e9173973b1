"""`python -m tests.sim SEED`: run one seed again, and print its ladder and what is wrong with it."""

from __future__ import annotations

import sys

from tests.sim.scenario import run


def main() -> int:
    """0 where nothing is wrong, 1 where something is, 2 for a wrong command line."""
    if len(sys.argv) != 2 or not sys.argv[1].isdigit():
        print("usage: python -m tests.sim SEED", file=sys.stderr)
        return 2
    came = run(int(sys.argv[1]), told=True)
    print(came)
    return 1 if came.violations else 0


if __name__ == "__main__":
    sys.exit(main())
