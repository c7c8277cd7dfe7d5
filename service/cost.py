"""What a job may cost: the limits that a client or an operator set, held before anything is paid.

A price is what the catalog lists. Where it lists none, `max_cost` does not refuse a job, unless the
job is `strict`: then somebody must be known to keep it.
"""

from collections.abc import Sequence

from storage.bill import day_of
from storage.bills import Bills
from storage.catalog import Deployment
from storage.errors import Invalid
from storage.job import Job
from storage.jobs import Budget
from storage.quote import quotes
from storage.request import Request
from storage.tenant import ApiKey, Tenant


def check_cost(job: Job, able: Sequence[Deployment]) -> None:
    """Refuse a job when every deployment that can is known to cost more than its `max_cost`."""
    if job.max_cost is None:
        return
    amounts = [quote.cost.amount for quote in quotes(job.request, able)]
    known = [amount for amount in amounts if amount is not None]
    if any(amount <= job.max_cost for amount in known):
        return
    if len(known) == len(amounts):
        raise Invalid(
            f"The model {job.model} costs at least {min(known):g} USD for this.",
            param="max_cost",
            code="max_cost_exceeded",
        )
    if job.strict:
        raise Invalid(
            f"Nobody can say that the model {job.model} costs no more than this.",
            param="max_cost",
            code="price_unknown",
        )


def set_aside(request: Request, able: Sequence[Deployment]) -> float:
    """Return what a request may cost at most by the price list, as far as it says."""
    return max((quote.cost.amount or 0.0 for quote in quotes(request, able)), default=0.0)


async def budget_of(tenant: Tenant, key: ApiKey, bills: Bills, now: float) -> Budget | None:
    """Return what the tenant and its key may spend on the jobs of this day, or None for no limit.

    Raises `Unavailable` when Redis does not answer.
    """
    limits = tenant.spend_per_day, key.spend_per_day
    if limits == (None, None):
        return None
    spent = 0.0 if limits[0] is None else await bills.spent(tenant.id, day_of(now))
    return Budget(limits[0], spent, key_limit=limits[1])
