"""The walk of one job: begin, generate, keep, settle.

A process may be killed between any two lines of it. What is on record then is enough for the next
worker to go on: the attempt is recorded before the call, the upstream's id before the first poll,
each finished part before the next is waited for, and the end together with the webhooks that it
owes.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import structlog

from storage.attempt import ABANDONED, UNKNOWN, AttemptStatus, Cost
from storage.catalog import Deployment
from storage.crash import CrashPoint
from storage.errors import Unavailable
from storage.failure import Failure, FailureCode
from storage.job import MAX_CRASHES, Job, Newer, Superseded
from storage.jobs import Jobs
from storage.quote import listed
from storage.record import read
from storage.request import OnUnknown
from worker.call import Call, Called, calls_for, picked_up
from worker.inputs import BadInput, Inputs
from worker.outage import outlast
from worker.outcome import Again, Lost, Nothing, Outcome, Settled
from worker.permits import Permit
from worker.provider import Partial, Progress, Provider, Source
from worker.results import Results
from worker.router import FIRST_BACKOFF, NoWay, Pick, Router, Wait
from worker.run import Run


log = structlog.get_logger("worker.executor")

Providers: TypeAlias = Callable[[Deployment], Provider]

Given: TypeAlias = tuple[tuple[Source, ...], Source | None]

_NOTHING_GIVEN: Given = ((), None)

_LAST_WORDS = 5.0
_NEWER_WAIT = 5.0  # for a worker of the version that wrote the record
_MOST_ATTEMPTS = 5
_LONGEST_PARK = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How patient a run is: attempts of a job, seconds to outlast an outage."""

    attempts: int = 4
    patience: float = 600.0


class Executor:
    """Walks jobs from claimed to settled, each in its own task. `clock` gives Unix seconds."""

    def __init__(
        self,
        jobs: Jobs,
        inputs: Inputs,
        results: Results,
        router: Router,
        providers: Providers,
        *,
        clock: Callable[[], float],
        terms: Terms | None = None,
        crash: CrashPoint | None = None,
    ) -> None:
        self._jobs = jobs
        self._inputs = inputs
        self._results = results
        self._router = router
        self._providers = providers
        self._clock = clock
        self._terms = terms or Terms()
        self._crash = crash or CrashPoint()

    async def run(self, job_id: str, record: bytes | None = None) -> Outcome:
        """Take the job as far as it goes now, and say what is left to do.

        `record` is its record as it was claimed a moment ago; without one it is looked up.
        """
        patience = self._terms.patience
        try:
            if record is not None:
                job: Job | None = read(record)
            else:
                job = await outlast(lambda: self._jobs.find(job_id), patience=patience)
        except Newer:
            return Again(_NEWER_WAIT)
        if job is None or job.is_ended:
            return Nothing()
        if job.is_newer:
            return Again(_NEWER_WAIT)
        run = Run(self._jobs, job, secrets.token_hex(8), patience=patience)
        try:
            return await self._walk(run)
        except Superseded:
            await self._account_late(run)
            return Lost()
        except asyncio.CancelledError:
            await asyncio.shield(self._hand_over(run))
            raise
        except Unavailable as error:
            await self._hand_over(run)
            return Again(error.retry_after)
        except Exception as fault:
            log.exception("run_fault", job=job.id, tenant=job.tenant, fault=type(fault).__name__)
            return await self._fail(run)

    # -- the walk ----------------------------------------------------------------------------------

    async def _walk(self, run: Run) -> Outcome:
        self._crash.visit("begin")
        now = self._clock()
        job = run.job
        if (ended := job.overdue(now)) is not None:
            return await self._end(run, lambda _: ended)
        run.say(lambda job: job.claimed(run.fence, now))
        try:
            return await self._attempts(run)
        except BadInput as bad:
            failure = bad.failure
            return await self._end(run, lambda job: job.failed(failure, self._clock()))

    async def _attempts(self, run: Run) -> Outcome:
        """Ask deployments until the images are there or there is no way left."""
        given: Given | None = None
        for _ in range(_MOST_ATTEMPTS * self._terms.attempts):
            step = await self._next(run)
            if not isinstance(step, Pick):
                return step
            async with step.permit:
                if run.job.open_attempt is None:  # a task that goes on has been given everything
                    given = given or await self._given(run)
                await self._begin(run, step)
                called = await self._attempt(run, step, given or _NOTHING_GIVEN)
            if called.at_work:
                return await self._park(run, called)
            if not run.job.missing or called.is_final:
                break
        return await self._settle(run, _last_error(run.job))

    async def _next(self, run: Run) -> Pick | Outcome:
        """Say whom to ask next, or give the job back, or end it."""
        now = self._clock()
        if (failure := _hopeless(run.job, now)) is not None:
            return await self._settle(run, failure)
        if (pick := await self._resumed(run, now)) is not None:
            return pick
        if _is_spent(run.job, self._terms.attempts):
            return await self._settle(run, _last_error(run.job))
        match await self._router.choose(run.job, now):
            case NoWay(failure=failure):
                return await self._settle(run, failure)
            case Wait(after=after, waiting=waiting):
                if run.is_on_record:
                    await run.write(lambda job: job.handed_over(run.fence, now))
                return Again(after, waiting)
            case Pick() as pick:
                return pick

    async def _resumed(self, run: Run, now: float) -> Pick | None:
        """Return the deployment that still works on an open attempt of an earlier run."""
        if run.job.open_attempt is None:
            return None
        if (pick := await self._router.resume(run.job)) is not None:
            return pick
        run.say(lambda job: job.progressed(run.fence, (), UNKNOWN))
        run.say(
            lambda job: job.attempted(
                run.fence, now, AttemptStatus.OUTCOME_UNKNOWN, error=ABANDONED
            )
        )
        return None

    async def _given(self, run: Run) -> Given:
        """Return the images that the job starts from, with the mask."""
        if not run.job.request.is_edit:
            return (), None
        await run.write()  # so that it is counted when a worker dies of them
        return await self._inputs.of(run.job.request)

    # -- one attempt -------------------------------------------------------------------------------

    async def _begin(self, run: Run, pick: Pick) -> None:
        """Put the attempt on record before any call is made, or that it goes on."""
        if run.job.open_attempt is not None:
            await run.write()
            return
        name, provider = pick.deployment.name, pick.deployment.provider
        price = listed(pick.fit.request, pick.deployment, len(run.job.missing)).amount
        await run.write(
            lambda job: job.attempting(name, provider, run.fence, self._clock(), quote=price)
        )

    async def _attempt(self, run: Run, pick: Pick, given: Given) -> Called:
        """Make the calls of one attempt and say in the record how it went, not written yet."""
        self._crash.visit("call")
        provider = self._providers(pick.deployment)
        calls, left = picked_up(run.job, calls_for(run.job, pick, *given))

        async def one(call: Call) -> Called:
            async with pick.permit.places:
                called = await self._call(run, provider, call, pick.permit)
                if len(calls) > 1:  # the others go on: what is there must not be lost with them
                    await run.write()
                return called

        done = await _all([one(call) for call in calls])
        called = Called.together([*done, *(Called.abandoned() for _ in left)])
        if not called.at_work:
            for _ in left:
                run.say(lambda job: job.progressed(run.fence, (), UNKNOWN))
            run.say(
                lambda job: job.attempted(
                    run.fence, self._clock(), called.status, error=called.failure
                )
            )
        return called

    async def _call(self, run: Run, provider: Provider, call: Call, permit: Permit) -> Called:
        """Make one call, keep what it brings, and say in the record what it came to."""
        first = call.indexes[0]
        going = run.job.open_attempt
        known = None if going is None else going.upstream_ids.get(first)

        async def submitted(upstream_id: str) -> None:
            nonlocal known
            known = upstream_id
            await run.write(lambda job: job.submitted(first, upstream_id, run.fence))
            self._crash.visit("submitted")

        async def previewed(partial: Partial) -> None:
            await run.preview(partial, first)

        progress = Progress(submitted=submitted, previewed=previewed)
        timeout = self._time_for(run.job, call.deployment)
        called = await call.make(provider, progress, timeout=timeout, resume=known)
        self._crash.visit("answered")
        await permit.ended(called.error)
        if known is not None and self._may_still_end(run.job, call.deployment, called):
            return replace(called, at_work=True)
        kept = await _all(
            [
                self._results.keep(
                    run.job, index, call.order.attempt, outcome, call.deployment.capabilities
                )
                for index, outcome in called.outcomes
            ]
        )
        self._crash.visit("kept")
        done = called.with_images(kept)
        run.say(
            lambda job: job.progressed(
                run.fence,
                done.images,
                done.cost,
                done.usage,
                call=first,
                warnings=done.warnings,
                text=done.text,
            )
        )
        return done

    def _may_still_end(self, job: Job, deployment: Deployment, called: Called) -> bool:
        """Say whether the upstream has a task whose end nobody has seen, and is still in time."""
        going = job.open_attempt
        if going is None or called.error is None or not called.error.outcome_unknown:
            return False
        return self._clock() < going.started_at + 2 * deployment.timeout

    def _time_for(self, job: Job, deployment: Deployment) -> float:
        if job.deadline is None:
            return deployment.timeout
        return max(min(deployment.timeout, job.deadline - self._clock()), 0.001)

    # -- the ends ----------------------------------------------------------------------------------

    async def _settle(self, run: Run, failure: Failure | None) -> Outcome:
        return await self._end(run, lambda job: job.settled(run.fence, self._clock(), failure))

    async def _end(self, run: Run, change: Callable[[Job], Job]) -> Outcome:
        job = await run.write(change)
        self._crash.visit("settled")
        log.info(
            "job_ended",
            job=job.id,
            tenant=job.tenant,
            request=job.request_id,
            model=job.model,
            status=job.status,
            attempts=len(job.attempts),
            seconds=round((job.finished_at or 0.0) - job.created_at, 3),
            code=job.error.code if job.error else None,
        )
        return Settled()

    async def _park(self, run: Run, called: Called) -> Outcome:
        """Give the job back while the upstream works on a task that is known by its id.

        It is asked again ever more slowly: a result that cannot be had may be costly to ask for.
        """
        going, now = run.job.open_attempt, self._clock()
        await run.write(lambda job: job.handed_over(run.fence, now))
        hint = called.error.retry_after if called.error is not None else None
        age = 0.0 if going is None else now - going.started_at
        return Again(hint or min(max(2 * FIRST_BACKOFF, age / 2), _LONGEST_PARK))

    async def _fail(self, run: Run) -> Outcome:
        """End a job that met a fault of ours; the images it has are kept."""
        failure = Failure(
            code=FailureCode.INTERNAL_ERROR, message="An internal fault ended the job."
        )
        try:
            return await self._end(run, lambda job: job.failed(failure, self._clock()))
        except Superseded:
            return Lost()

    async def _hand_over(self, run: Run) -> None:
        """Leave a job whose task was stopped so that the next worker knows where it stands."""
        try:
            async with asyncio.timeout(_LAST_WORDS):
                if run.job.fence == run.fence:
                    await run.write(lambda job: job.handed_over(run.fence, self._clock()))
                else:
                    await run.finish()
        except (Superseded, TimeoutError, Unavailable):
            return

    async def _account_late(self, run: Run) -> None:
        """Put on record what a call cost whose job was cancelled while it was made."""
        now_known = run.job.attempts[-1] if run.job.attempts else None
        if now_known is None or not now_known.costs:
            return
        patience = self._terms.patience
        stored = await outlast(lambda: self._jobs.find(run.job.id), patience=patience)
        if stored is None or not stored.is_ended or len(stored.attempts) < now_known.number:
            return
        if stored.attempts[now_known.number - 1].fence == run.fence:
            # Calls that were broken off with this one are on nobody's bill.
            others = (UNKNOWN,) if run.job.missing else ()
            cost = Cost.total((*now_known.costs, *others))
            accounted = stored.accounted(now_known.number, cost, now_known.usage)
            await outlast(lambda: self._jobs.swap(stored, accounted), patience=patience)


def _hopeless(job: Job, now: float) -> Failure | None:
    """Return why no attempt should be made any more, if so."""
    if job.deadline is not None and now >= job.deadline:
        return Failure(code=FailureCode.DEADLINE, message="The job's deadline has passed.")
    if job.crashes >= MAX_CRASHES:
        message = f"The job ended {job.crashes} workers; it is not tried again."
        return Failure(code=FailureCode.INTERNAL_CRASH, message=message)
    allowed = 1 if job.on_unknown is OnUnknown.RETRY else 0
    if job.unknown_outcomes > allowed:
        message = "Nobody knows whether the upstream did the work; it may have been charged."
        return Failure(code=FailureCode.OUTCOME_UNKNOWN, message=message)
    return None


def _is_spent(job: Job, most: int) -> bool:
    """Say whether the job has had its attempts; to be told to come later costs less than one."""
    told_to_wait = sum(
        a.error is not None and a.error.code is FailureCode.RATE_LIMITED for a in job.attempts
    )
    return len(job.attempts) - told_to_wait >= most or len(job.attempts) >= _MOST_ATTEMPTS * most


def _last_error(job: Job) -> Failure | None:
    errors = [attempt.error for attempt in job.attempts if attempt.error is not None]
    return errors[-1] if errors else None


async def _all(parts: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Run the parts side by side; the first error ends the others and is raised as it is."""
    if len(parts) == 1:
        return [await parts[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in parts]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return [task.result() for task in tasks]
