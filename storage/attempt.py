"""An attempt: one try to get images of a job from one deployment, and the ledger of what it cost."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from storage.failure import Failure, FailureCode


class AttemptStatus(StrEnum):
    """Where one try stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    OUTCOME_UNKNOWN = "outcome_unknown"
    CANCELLED = "cancelled"


class CostSource(StrEnum):
    """Where a sum of money comes from, the surest first."""

    REPORTED = "reported"
    COMPUTED = "computed"
    PRICE_TABLE = "price_table"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Cost:
    """A sum in USD and where it comes from; an unknown sum is None, never 0."""

    amount: float | None = None
    source: CostSource = CostSource.UNKNOWN

    @classmethod
    def nothing(cls) -> "Cost":
        """Return the cost of a call that the upstream refused with an error status: none."""
        return cls(0.0, CostSource.COMPUTED)

    @classmethod
    def total(cls, costs: Iterable["Cost"]) -> "Cost":
        """Add up what is known; the source is that of the least sure part."""
        parts = tuple(costs)
        known = [part.amount for part in parts if part.amount is not None]
        if not parts or not known:
            return cls()
        order = list(CostSource)
        least_sure = max(parts, key=lambda part: order.index(part.source)).source
        return cls(round(sum(known), 10), least_sure)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What an upstream counted: tokens, by kind where it says so, and images."""

    input_tokens: int | None = None
    input_text_tokens: int | None = None
    input_image_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    output_text_tokens: int | None = None
    output_image_tokens: int | None = None
    total_tokens: int | None = None
    images: int | None = None

    def __add__(self, other: "Usage") -> "Usage":
        """Add two counts field by field; a field neither knows stays unknown."""
        fields = self.__dataclass_fields__
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in fields}
        return Usage(
            **{
                name: None if a is None and b is None else (a or 0) + (b or 0)
                for name, (a, b) in pairs.items()
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One call, or one set of calls for the same n images, to one deployment.

    It is recorded before the call is made, so that a crash cannot hide money that was spent. `fence` is
    the token of the worker run that owns it. `sent` tells whether the call may have reached the
    upstream: it is true from the moment the attempt is recorded. Times are Unix seconds.
    """

    number: int
    deployment: str
    provider: str
    fence: str
    started_at: float
    status: AttemptStatus = AttemptStatus.RUNNING
    finished_at: float | None = None
    upstream_id: str | None = None
    cost: Cost = Cost()
    usage: Usage | None = None
    error: Failure | None = None

    def ended(
        self,
        status: AttemptStatus,
        now: float,
        *,
        cost: Cost,
        usage: Usage | None = None,
        error: Failure | None = None,
    ) -> "Attempt":
        """Return this attempt closed with what it cost."""
        return replace(
            self, status=status, finished_at=now, cost=cost, usage=usage or self.usage, error=error
        )

    def abandoned(self, now: float) -> "Attempt":
        """Return this attempt as its dead owner left it: nobody knows whether it was paid for."""
        message = "The worker ended during the call; the upstream may have charged for it."
        return self.ended(
            AttemptStatus.OUTCOME_UNKNOWN,
            now,
            cost=Cost(),
            error=Failure(code=FailureCode.OUTCOME_UNKNOWN, message=message),
        )
