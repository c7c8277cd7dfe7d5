"""The matrix: all rows in order, and how one of them is run."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum

from tests.faults import (
    buckets,
    crowds,
    ends,
    machine,
    poison,
    receivers,
    services,
    stores,
    storm,
    upstreams,
    workers,
)
from tests.faults.row import Measure, NotRun, Row, Scale
from tests.faults.stand import Stand, standing


PATIENCE = 1800.0  # seconds for one row
ROWS: dict[str, Row] = {
    row.id: row
    for row in sorted(
        (
            *workers.ROWS,
            *poison.ROWS,
            *services.ROWS,
            *stores.ROWS,
            *buckets.ROWS,
            *upstreams.ROWS,
            *receivers.ROWS,
            *machine.ROWS,
            *crowds.ROWS,
            *ends.ROWS,
        ),
        key=lambda row: (row.id[0], int(row.id[1:])),
    )
}
# Beside the matrix: minutes of it say more than a row does.
STORM = storm.ROWS[0]


class Result(StrEnum):
    """How a row went."""

    HELD = "held"
    BROKEN = "BROKEN"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a row found."""

    row: Row
    result: Result
    said: str
    seconds: float

    def __str__(self) -> str:
        head = f"{self.row.id:<4} {self.result:<8} {self.seconds:5.0f} s"
        return f"{head}  {self.row.fault}: {self.said}"


async def run(rows: Sequence[Row], scale: Scale) -> AsyncIterator[Report]:
    """Run rows one after the other, on one stand of each kind; one that was harmed is replaced."""
    async with AsyncExitStack() as stack:
        stands: dict[str, Stand] = {}
        for row in rows:
            begun = time.monotonic()
            try:
                if row.stand not in stands:
                    stands[row.stand] = await stack.enter_async_context(standing(row.stand))
                stand = stands[row.stand]
                result, said = await _measured(row, stand, scale)
            except Exception as fault:  # noqa: BLE001 — one row must not take the others along
                traceback.print_exc()
                result, said = Result.BROKEN, f"{type(fault).__name__}: {str(fault)[:500]}"
            yield Report(row=row, result=result, said=said, seconds=time.monotonic() - begun)
            try:
                await stands[row.stand].tidy()
            except Exception:  # noqa: BLE001 — the next row gets a new one
                traceback.print_exc()
                stands.pop(row.stand, None)


async def _measured(row: Row, stand: Stand, scale: Scale) -> tuple[Result, str]:
    try:
        async with asyncio.timeout(PATIENCE):
            found = await row.run(stand, scale)
    except NotRun as reason:
        return Result.NOT_RUN, str(reason)
    held = all(measure.is_held for measure in found)
    return (Result.HELD if held else Result.BROKEN), _told(found)


def _told(found: Iterable[Measure]) -> str:
    return "; ".join(f"{'' if m.is_held else '✗ '}{m}" for m in found)
