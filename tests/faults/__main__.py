"""`python -m tests.faults [F1 F2 …] [--scale 0.1]`: runs the fault matrix, one line per row.

A scale of 1 is the size that the matrix names, of hours; the default is for a coffee. The storm is
not part of it: `python -m tests.faults storm --scale 1` kills everything for ten minutes.
"""

import argparse
import asyncio
import sys

from tests.faults.matrix import ROWS, STORM, Report, Result, run
from tests.faults.row import Row, Scale


def main() -> int:
    """Return 0 when every row that was run is held."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="all by default")
    parser.add_argument("--scale", type=float, default=0.02)
    asked = parser.parse_args()
    every = {**ROWS, STORM.id: STORM}
    unknown = [name for name in asked.rows if name not in every]
    if unknown:
        parser.error(f"there is no row {unknown[0]}; there are {' '.join(every)}")
    rows = [every[name] for name in asked.rows or ROWS]
    reports = asyncio.run(_run(rows, Scale(asked.scale)))
    held, broken, left = (
        sum(r.result is result for r in reports)
        for result in (Result.HELD, Result.BROKEN, Result.NOT_RUN)
    )
    sys.stdout.write(f"{held} held, {broken} broken, {left} not run\n")
    return 1 if broken else 0


async def _run(rows: list[Row], scale: Scale) -> list[Report]:
    reports = []
    async for report in run(rows, scale):
        sys.stdout.write(f"{report}\n")
        sys.stdout.flush()
        reports.append(report)
    return reports


if __name__ == "__main__":
    sys.exit(main())
