"""`python -m tests.bench [PART…]`: each figure beside its baseline.

`PARTS` names the parts that run when none is asked for; those of `LONG` take many minutes.
"""

import asyncio
import sys

from tests.bench import (
    answers,
    batch,
    cost,
    hostile,
    ledger,
    patience,
    queueing,
    renditions,
    sharing,
    traffic,
    walk,
    webhooks,
)
from tests.bench.table import show


PARTS = {
    "queue": queueing.run,
    "walk": walk.run,
    "cost": cost.run,
    "traffic": traffic.run,
    "ledger": ledger.run,
    "renditions": renditions.run,
    "batch": batch.run,
    "hostile": hostile.run,
    "sharing": sharing.run,
    "webhooks": webhooks.run,
    "answers": answers.run,
}
LONG = {"patience": patience.run}


def main(names: list[str]) -> None:
    """Run the parts that are named, or all."""
    for name in names or PARTS:
        show(name, asyncio.run((PARTS | LONG)[name]()))


if __name__ == "__main__":
    main(sys.argv[1:])
