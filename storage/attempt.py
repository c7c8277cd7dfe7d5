"""An attempt: one try to get images from one deployment, and the ledger of what it cost."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
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


UNKNOWN = Cost()

ABANDONED = Failure(
    code=FailureCode.OUTCOME_UNKNOWN,
    message="The call was left before its answer came; the upstream may have charged for it.",
)


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
    """One call, or one set of calls for different images, to one deployment.

    It is recorded before the call is made, so that a crash cannot hide money that was spent.
    `fence` is the token of the worker run that owns it. `upstream_ids` are the upstream's own names
    for what it was given to do, by the index of the first image of each call; `costs` holds one sum
    for each call that has ended, and `over` the indexes of those whose end is known. `quote` is the
    listed price of all that was asked for, in USD, or None when the list does not say. Times are
    Unix seconds.
    """

    number: int
    deployment: str
    provider: str
    fence: str
    started_at: float
    status: AttemptStatus = AttemptStatus.RUNNING
    finished_at: float | None = None
    upstream_ids: Mapping[int, str] = field(default_factory=dict)
    costs: tuple[Cost, ...] = ()
    over: tuple[int, ...] = ()
    quote: float | None = None
    usage: Usage | None = None
    error: Failure | None = None

    @property
    def cost(self) -> Cost:
        """Return the sum over the calls; while it runs, and when nobody knows, it is unknown."""
        return Cost.total(self.costs)

    @property
    def at_risk(self) -> float | None:
        """Return what may have been charged beyond the known cost, in USD, by the price list.

        It is 0 when the cost is wholly known, and None when nobody can say.
        """
        if self.cost.source is not CostSource.UNKNOWN:
            return 0.0
        if self.quote is None:
            return None
        return max(round(self.quote - (self.cost.amount or 0.0), 10), 0.0)

    @property
    def upstream_id(self) -> str | None:
        """Return the upstream's id of the first call that has one."""
        return self.upstream_ids[min(self.upstream_ids)] if self.upstream_ids else None

    def charged(self, cost: Cost, usage: Usage | None, call: int | None = None) -> "Attempt":
        """Return this attempt with one more call on the bill, that for image `call` onwards."""
        counted = usage if self.usage is None or usage is None else self.usage + usage
        over = self.over if call is None else (*self.over, call)
        return replace(self, costs=(*self.costs, cost), over=over, usage=counted or self.usage)

    def ended(self, status: AttemptStatus, now: float, error: Failure | None = None) -> "Attempt":
        """Return this attempt closed."""
        return replace(self, status=status, finished_at=now, error=error)

    def abandoned(self, now: float) -> "Attempt":
        """Return this attempt closed without an answer: nobody knows whether it was paid for."""
        return self.charged(UNKNOWN, None).ended(AttemptStatus.OUTCOME_UNKNOWN, now, ABANDONED)
