"""`python -m tests.simulation`: one run, and its figures. Exits with 1 where a promise was broken."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.aws import Chances
from tests.simulation.report import figures, text
from tests.simulation.run import Run


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--crashes", type=float, default=0.0, help="share of invocations that die")
    parser.add_argument("--faults", type=float, default=0.0, help="share of provider calls")
    parser.add_argument("--messages", type=float, help="share that is lost; default: as --crashes")
    parser.add_argument("--throttles", type=float, default=0.0, help="share of the table's writes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--entered", action="store_true", help="enter the jobs without the uploads and submit"
    )
    parser.add_argument("--times", type=int, default=1, help="larger quotas, by that factor")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    said = parser.parse_args()
    messages = said.crashes if said.messages is None else said.messages
    chances = Chances(said.crashes, said.faults, messages, said.throttles)
    run = Run(said.jobs, chances, said.seed, submitted=not said.entered, times=said.times)
    run.play()
    seen = figures(run)
    print(seen.as_json() if said.json else text(seen))
    return 1 if seen.violations else 0


if __name__ == "__main__":
    sys.exit(main())
