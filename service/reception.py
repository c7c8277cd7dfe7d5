"""The reception: from a draft to a job that is taken in.

In this order, so that nothing is kept for a request that is refused: the model and its
deployments are asked whether they can, then the images go to objects, then one step takes the job
in. A client that hangs up leaves its job behind: it goes on.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from service.availability import Availability
from service.cost import budget_of, check_cost, set_aside
from service.draft import Draft
from service.intake import Intake, inputs_of
from service.progress import Progress, Watched
from service.receiver_url import receiver_url
from service.settings import LimitSettings
from service.wire.fields import Extras
from storage.address import Allowance
from storage.bills import Bills
from storage.catalog import Deployment, Model
from storage.catalogs import Catalogs
from storage.errors import Conflict, Invalid, Missing, TooMany
from storage.fit import Fit, fit, unfit
from storage.image import Image
from storage.job import Job, JobId, JobType
from storage.jobs import Idempotency, Jobs, Seating, new_job_id
from storage.quote import Quote, quotes
from storage.request import Adaptation, Request
from storage.tenant import ApiKey, Tenant


@dataclass(frozen=True, slots=True)
class Asker:
    """Who submits, with which keys, under which request id, and when."""

    tenant: Tenant
    key: ApiKey
    request_id: str
    now: float
    idempotency_key: str | None = None


class Reception:
    """Takes jobs in. Every method may raise a refusal of `storage.errors`."""

    def __init__(
        self,
        *,
        catalogs: Catalogs,
        jobs: Jobs,
        progress: Progress,
        intake: Intake,
        availability: Availability,
        bills: Bills,
        allowance: Allowance,
        limits: LimitSettings,
    ) -> None:
        self._catalogs = catalogs
        self._jobs = jobs
        self._progress = progress
        self._intake = intake
        self._availability = availability
        self._bills = bills
        self._allowance = allowance
        self._limits = limits

    async def submit(
        self, asker: Asker, draft: Draft, *, wait: float, is_gone: Callable[[], bool]
    ) -> Job:
        """Take the draft in and return its job as it stands when it has ended or `wait` is over.

        `is_gone` says whether the client has hung up: then nobody waits any longer.
        """
        if wait <= 0:
            return await self._taken_in(asker, draft, await self._decided(asker, draft))
        async with self.watched(asker, draft) as watched:
            return await watched.ended(wait, is_gone)

    @asynccontextmanager
    async def watched(self, asker: Asker, draft: Draft) -> AsyncIterator[Watched]:
        """Take the draft in and give its job as one who listens from before it was there."""
        job = await self._decided(asker, draft)
        async with self._progress.feed(job.id) as feed:
            taken = await self._taken_in(asker, draft, job)
            if taken.id == job.id:
                yield self._progress.watched(taken, feed)
                return
        async with self._progress.of(taken) as watched:
            yield watched

    @property
    def allowance(self) -> Allowance:
        """Return which networks webhooks may reach although they are not public."""
        return self._allowance

    async def planned(self, asker: Asker, draft: Draft, batch_id: str) -> Job:
        """Return the job that the draft is, to be taken in later by a batch.

        Its images are kept with the batch: until then nobody knows of the job.
        """
        job = await self._decided(asker, draft)
        place = JobId(f"{batch_id}/{job.id}")
        await self._intake.keep(place, job.tenant, draft.given)
        return replace(job, request=_with_inputs(job.tenant, place, draft))

    def quoted(self, asker: Asker, draft: Draft) -> tuple[Job, list[Quote]]:
        """Return the job that the draft would be and what each deployment would charge for it."""
        model = self._model(draft)
        with draft.in_its_words():
            self._check_text(draft.request)
        job = self._job(asker, draft, model)
        return job, quotes(job.request, model.deployments)

    # -- deciding ---------------------------------------------------------------------------------

    async def _decided(self, asker: Asker, draft: Draft) -> Job:
        model = self._model(draft)
        with draft.in_its_words():
            self._check_text(draft.request)
            job = self._job(asker, draft, model)
            able = self._able(job, model)
        await self._availability.check(model, asker.now)
        return _with_money_aside(job, asker, able)

    def _model(self, draft: Draft) -> Model:
        model = self._catalogs.current.resolve(draft.model)
        if model is None:
            raise Missing(
                "There is no such model; see GET /v1/models.", param="model", code="model_not_found"
            )
        return model

    def _job(self, asker: Asker, draft: Draft, model: Model) -> Job:
        job_id = new_job_id()
        extras = draft.extras
        request = _with_inputs(asker.tenant.id, job_id, draft)
        start_by = None if extras.start_within is None else asker.now + extras.start_within
        return Job(
            id=job_id,
            tenant=asker.tenant.id,
            type=JobType.EDIT if request.is_edit else JobType.GENERATION,
            model=model.name,
            request=request,
            created_at=asker.now,
            images=tuple(Image(index=index) for index in range(request.n)),
            warnings=_warnings(draft, model),
            metadata=extras.metadata,
            webhook_url=self._webhook_url(extras.webhook_url),
            webhook_events=extras.webhook_events,
            priority=extras.priority,
            start_by=start_by,
            deadline=self._deadline(asker.now, extras),
            on_unknown=extras.on_unknown,
            strict=extras.strict,
            max_cost=extras.max_cost,
            request_id=asker.request_id,
        )

    def _deadline(self, now: float, extras: Extras) -> float:
        """Return when the job ends at the latest: as asked, but every job ends some day."""
        latest = now + (extras.start_within or 0.0) + self._limits.job_hours * 3600
        return latest if extras.end_within is None else min(now + extras.end_within, latest)

    def _check_text(self, request: Request) -> None:
        for param in ("prompt", "negative_prompt"):
            if len(getattr(request, param) or "") > self._limits.prompt_chars:
                raise Invalid(
                    f"At most {self._limits.prompt_chars} characters are taken.",
                    param=param,
                    code="string_too_long",
                )

    def _able(self, job: Job, model: Model) -> list[Deployment]:
        """Return the deployments that can do the job.

        Refuses what none of them can, what `strict` forbids and what costs too much.
        """
        request = job.request
        if request.mask is not None and not request.images:
            raise Invalid("A mask needs an image.", param="mask", code="invalid_value")
        _check_mask(request)
        able = [d for d in model.deployments if unfit(request, d) is None]
        if not able:
            refused = unfit(request, model.deployments[0])
            raise Invalid(
                f"The model {model.name} {refused.reason if refused else 'cannot do this'}.",
                param=refused.param if refused else None,
                code="unsupported",
            )
        if job.strict:
            _check_exact(job, able)
        check_cost(job, able)
        return able

    def _webhook_url(self, text: str | None) -> str | None:
        if text is None:
            return None
        return receiver_url(text, param="webhook_url", allowance=self._allowance)

    # -- taking in --------------------------------------------------------------------------------

    async def _taken_in(self, asker: Asker, draft: Draft, job: Job) -> Job:
        """Keep the images, then the job; what was kept for a job that is not to be is removed."""
        idempotency = None
        if asker.idempotency_key is not None:
            idempotency = Idempotency(asker.idempotency_key, draft.body.fingerprint(draft.door))
        kept = await self._intake.keep(job.id, job.tenant, draft.given)
        try:
            added = await self._jobs.add(
                job,
                weight=asker.tenant.weight,
                idempotency=idempotency,
                budget=await budget_of(asker.tenant, asker.key, self._bills, asker.now),
                seating=Seating.of(asker.tenant),
            )
        except (Conflict, Invalid, TooMany):
            await self._intake.forget(kept)
            raise
        draft.let_go()
        # Any other refusal leaves open whether the job was added; a sweep finds what nobody names.
        if not added.existed:
            return job
        await self._intake.forget(kept)
        return await self._progress.read(job.tenant, added.id)


def _with_money_aside(job: Job, asker: Asker, able: Sequence[Deployment]) -> Job:
    """Return the job with what it may cost set aside of the budgets that it is under."""
    if asker.tenant.spend_per_day is not None:
        job = replace(job, reserved=set_aside(job.request, able))
    if asker.key.spend_per_day is not None:
        job = replace(job, key=asker.key.id, key_reserved=set_aside(job.request, able))
    return job


def _with_inputs(tenant: str, job_id: JobId, draft: Draft) -> Request:
    if not draft.given:
        return draft.request
    inputs = inputs_of(tenant, job_id, draft.given)
    count = len(draft.images)
    mask = inputs[count] if draft.mask is not None else None
    return replace(draft.request, images=inputs[:count], mask=mask)


def _warnings(draft: Draft, model: Model) -> tuple[Adaptation, ...]:
    dropped = (Adaptation(param=name[:100], action="dropped") for name in draft.ignored)
    ignored = (*draft.adapted, *dropped)
    if draft.model in {None, model.name}:
        return ignored
    renamed = Adaptation(param="model", action="adapted", requested=draft.model, used=model.name)
    return (renamed, *ignored)


def _check_exact(job: Job, able: Sequence[Deployment]) -> None:
    """Refuse a strict job unless some deployment applies every parameter as asked."""
    losses = [found.adaptations for d in able if isinstance(found := fit(job.request, d), Fit)]
    lost = (*job.warnings, *min(losses, key=len, default=()))
    if lost:
        raise Invalid(
            f"{lost[0].param} cannot be applied as asked.",
            param=lost[0].param,
            code="not_applicable",
        )


def _check_mask(request: Request) -> None:
    mask, first = request.mask, request.images[0] if request.images else None
    if mask is None or first is None or mask.width is None or first.width is None:
        return
    if (mask.width, mask.height) != (first.width, first.height):
        raise Invalid(
            f"The mask is {mask.width}x{mask.height}; the image is {first.width}x{first.height}.",
            param="mask",
            code="invalid_mask",
        )
