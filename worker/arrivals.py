"""What an event stream brings: previews on the way, then the images, in the words of OpenAI.

OpenRouter's image API says the same words about the models of others.
"""

from collections.abc import Callable, Mapping
from typing import Any

from storage.attempt import Usage
from storage.failure import Failure
from worker import wire
from worker.provider import Order, Partial, Picture, Progress, Reply
from worker.reply import decoded, replied


class Arrivals:
    """What has come so far of one order; its images come one after the other.

    `usage_of` and `cost_of` read what an event says about itself; the events of a call add up.
    """

    def __init__(
        self,
        order: Order,
        progress: Progress,
        *,
        usage_of: Callable[[Mapping[str, Any]], Usage | None],
        cost_of: Callable[[Mapping[str, Any]], float | None] = lambda _: None,
    ) -> None:
        self.outcomes: list[Picture | Failure] = []
        self.upstream_id: str | None = None
        self._order = order
        self._progress = progress
        self._usage_of = usage_of
        self._cost_of = cost_of
        self._usage: Usage | None = None
        self._cost: float | None = None

    async def add(self, event: Mapping[str, Any]) -> None:
        """Take one event in; a preview that is damaged is left out."""
        kind = wire.at(event, "type", kind=str) or ""
        outcome = decoded(wire.at(event, "b64_json", kind=str) or "")
        if kind.endswith(".partial_image") and isinstance(outcome, Picture):
            sequence = wire.at(event, "partial_image_index", kind=int) or 0
            preview = Partial(index=len(self.outcomes), sequence=sequence, data=outcome.data)
            await self._progress.previewed(preview)
        elif kind.endswith(".completed"):
            self.outcomes.append(outcome)
            self._charge(event)

    def reply(self, lost: Failure) -> Reply:
        """Return what came; `lost` says why the rest did not."""
        return replied(
            self._order,
            self.outcomes,
            missing=lost,
            usage=self._usage,
            cost=self._cost,
            upstream_id=self.upstream_id,
        )

    def _charge(self, event: Mapping[str, Any]) -> None:
        if (usage := self._usage_of(event)) is not None:
            self._usage = usage if self._usage is None else self._usage + usage
        if (cost := self._cost_of(event)) is not None:
            self._cost = cost + (self._cost or 0.0)
