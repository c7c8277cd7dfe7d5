"""Stalls: moments in which the event loop did not turn, told as soon as it turns again.

While a loop stands still no lease is renewed and nobody is answered, and the process cannot say so.
What it made meanwhile may be somebody else's by then; the fence of the job sees to that. Here only
the operator is told.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final


WORTH_TELLING: Final = 1.0  # seconds
_EVERY: Final = 0.5


async def watch_for_stalls(
    tell: Callable[[float], Awaitable[None]], *, worth: float = WORTH_TELLING
) -> None:
    """Call `tell` with the length in seconds of each stall of at least `worth`, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _EVERY
        await asyncio.sleep(_EVERY)
        late = loop.time() - due
        if late >= worth:
            await tell(late)
