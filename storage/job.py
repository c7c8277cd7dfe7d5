"""A job: one request for n images, and every rule of what may become of it.

The rules are pure methods that take `now` and return a new job or refuse; nothing here knows a
clock, Redis or HTTP. Whoever keeps jobs only compares and swaps. A running job carries a fence, the
token of the worker run that owns it: a result that comes in under another fence is refused, so a
worker that was believed dead cannot overwrite what its successor made.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NewType

from storage.attempt import Attempt, AttemptStatus, Cost, Usage
from storage.errors import Conflict
from storage.failure import Failure, FailureCode
from storage.image import Image, ImageStatus
from storage.request import Adaptation, OnUnknown, Request


JobId = NewType("JobId", str)

SCHEMA = 1
MAX_CRASHES = 3


class JobStatus(StrEnum):
    """Where a job stands; a job that has ended never moves again."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_ended(self) -> bool:
        """Say whether nothing more will happen to such a job."""
        return self not in {JobStatus.QUEUED, JobStatus.RUNNING}


class JobType(StrEnum):
    """Whether a job starts from a prompt alone or from images."""

    GENERATION = "generation"
    EDIT = "edit"


class Superseded(Conflict):
    """The job belongs to another worker run by now, or has ended; what was made is discarded."""


class Newer(Conflict):
    """The record was written by a newer version, which knows what this one would lose of it."""

    def __init__(self) -> None:
        super().__init__("The job was changed by a newer version of Darkroom.", code="newer_record")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request for n images and what became of it. Times are Unix seconds.

    `version` counts the writes of the record, `schema` the versions of its form. `crashes` counts
    the workers that died holding it. `reserved` is what was set aside, in USD, of what the tenant
    may spend on the day of its making; `key_reserved` of what may be spent with the API key `key`,
    which is named when it has a limit of its own. `start_by` and `deadline` are the last moments to
    start and to end; `fence` names the worker run that owns a running job, if one does.
    `receivers` is the generation of the tenant's webhook endpoints that was seen at its adding.
    `batch` names the batch that the job is of; such a job is told to its own `webhook_url` alone.
    """

    id: JobId
    tenant: str
    type: JobType
    model: str
    request: Request
    created_at: float
    status: JobStatus = JobStatus.QUEUED
    started_at: float | None = None
    finished_at: float | None = None
    images: tuple[Image, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    warnings: tuple[Adaptation, ...] = ()
    error: Failure | None = None
    text: str | None = field(default=None, repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict)
    webhook_url: str | None = field(default=None, repr=False)
    webhook_events: tuple[str, ...] = ()
    priority: int = 0
    start_by: float | None = None
    deadline: float | None = None
    on_unknown: OnUnknown = OnUnknown.RETRY
    strict: bool = False
    max_cost: float | None = None
    reserved: float | None = None
    key: str | None = None
    key_reserved: float | None = None
    fence: str | None = None
    crashes: int = 0
    request_id: str | None = None
    receivers: int = 0
    batch: str | None = None
    version: int = 0
    schema: int = SCHEMA

    @property
    def is_ended(self) -> bool:
        """Say whether the job has reached its one terminal state."""
        return self.status.is_ended

    @property
    def is_newer(self) -> bool:
        """Say whether a newer version wrote the record: it may be read here, but not written."""
        return self.schema > SCHEMA

    @property
    def cost(self) -> Cost:
        """Return the sum over all attempts."""
        return Cost.total(attempt.cost for attempt in self.attempts)

    @property
    def at_risk(self) -> float | None:
        """Return what may have been charged beyond the known cost, in USD; None: nobody can say."""
        risks = [attempt.at_risk for attempt in self.attempts]
        known = [risk for risk in risks if risk is not None]
        return round(sum(known), 10) if len(known) == len(risks) else None

    @property
    def usage(self) -> Usage | None:
        """Return the sum of what the upstreams counted, or None when none counted."""
        counts = [attempt.usage for attempt in self.attempts if attempt.usage is not None]
        return sum(counts[1:], counts[0]) if counts else None

    @property
    def missing(self) -> tuple[int, ...]:
        """Return the indexes of the images that are still to be made."""
        return tuple(image.index for image in self.images if image.status is ImageStatus.PENDING)

    @property
    def open_attempt(self) -> Attempt | None:
        """Return the attempt under way, if there is one."""
        last = self.attempts[-1] if self.attempts else None
        return last if last is not None and last.status is AttemptStatus.RUNNING else None

    @property
    def unknown_outcomes(self) -> int:
        """Return how many attempts may have been paid for without an answer."""
        return sum(a.status is AttemptStatus.OUTCOME_UNKNOWN for a in self.attempts)

    # -- the way through ---------------------------------------------------------------------------

    def claimed(self, fence: str, now: float) -> "Job":
        """Return the job as owned by the worker run `fence`.

        A job that a dead worker left running is taken over: the crash is counted, and its open
        attempt is closed as `outcome_unknown`, unless the upstream's id is known and the attempt
        can go on.
        """
        self._refuse_if_ended()
        crashed = self.fence is not None and self.fence != fence
        attempts = self._attempts_left(now)
        if (left := self.open_attempt) is not None and left.upstream_ids:
            attempts = (*attempts[:-1], replace(left, fence=fence))
        return replace(
            self,
            status=JobStatus.RUNNING,
            started_at=self.started_at if self.started_at is not None else now,
            fence=fence,
            crashes=self.crashes + crashed,
            attempts=attempts,
        )

    def attempting(
        self, deployment: str, provider: str, fence: str, now: float, *, quote: float | None = None
    ) -> "Job":
        """Return the job with one more attempt on record, before any call is made.

        `quote` is the listed price of what is asked for, in USD.
        """
        self._refuse_if_not_owned(fence)
        if self.open_attempt is not None:
            message = f"Job {self.id} has an attempt under way already."
            raise Conflict(message)
        attempt = Attempt(
            number=len(self.attempts) + 1,
            deployment=deployment,
            provider=provider,
            fence=fence,
            started_at=now,
            quote=quote,
        )
        return replace(self, attempts=(*self.attempts, attempt))

    def submitted(self, index: int, upstream_id: str, fence: str) -> "Job":
        """Return the job with the upstream's id of the call for image `index` on record."""
        self._refuse_if_not_owned(fence)
        return self._with_open_attempt(
            lambda attempt: replace(
                attempt, upstream_ids={**attempt.upstream_ids, index: upstream_id}
            )
        )

    def progressed(
        self,
        fence: str,
        made: Iterable[Image],
        cost: Cost,
        usage: Usage | None = None,
        *,
        call: int | None = None,
        warnings: Iterable[Adaptation] = (),
        text: str | None = None,
    ) -> "Job":
        """Return the job after one call: some images in their final state, and what they cost.

        `call` is the index of the first image that the call was for. An image that is in its final
        state already stays as it is.
        """
        self._refuse_if_not_owned(fence)
        by_index = {image.index: image for image in made}
        images = tuple(
            by_index.get(image.index, image) if image.status is ImageStatus.PENDING else image
            for image in self.images
        )
        charged = self._with_open_attempt(lambda attempt: attempt.charged(cost, usage, call))
        return replace(
            charged,
            images=images,
            warnings=_merged(self.warnings, warnings),
            text=text or self.text,
        )

    def attempted(
        self, fence: str, now: float, status: AttemptStatus, *, error: Failure | None = None
    ) -> "Job":
        """Return the job with its open attempt closed."""
        self._refuse_if_not_owned(fence)
        return self._with_open_attempt(lambda attempt: attempt.ended(status, now, error))

    def handed_over(self, fence: str, now: float) -> "Job":
        """Return the job as owned by nobody, to be taken up again later by any worker.

        An open attempt stays open when the upstream's id is known, since the next worker goes on
        with it; otherwise nobody knows what becomes of it. A job without any attempt has not really
        started and waits again, so its time to start goes on.
        """
        self._refuse_if_not_owned(fence)
        if not self.attempts:
            return replace(self, fence=None, status=JobStatus.QUEUED, started_at=None)
        return replace(self, fence=None, attempts=self._attempts_left(now))

    # -- the endings -------------------------------------------------------------------------------

    def settled(self, fence: str, now: float, error: Failure | None = None) -> "Job":
        """Return the job ended by what its images say; those not made fail with `error`.

        All made is `succeeded`, some is `partial`, none is `failed` with the reason of the first.
        """
        self._refuse_if_not_owned(fence)
        return self._by_images(
            error or Failure(code=FailureCode.NO_IMAGE, message="No image was made."), now
        )

    def failed(self, failure: Failure, now: float) -> "Job":
        """Return the job ended by a failure that no attempt can mend, keeping the images it has."""
        self._refuse_if_ended()
        return self._by_images(failure, now)

    def cancelled(self, now: float) -> "Job":
        """Return the job ended by its owner; an open attempt's price is nobody's knowledge yet."""
        self._refuse_if_ended()
        failure = Failure(code=FailureCode.CANCELLED, message="The job was cancelled.")
        attempts = self.attempts
        if (running := self.open_attempt) is not None:
            closed = running.charged(Cost(), None).ended(AttemptStatus.CANCELLED, now, failure)
            attempts = (*attempts[:-1], closed)
        return replace(self._unmade(JobStatus.CANCELLED, failure, now), attempts=attempts)

    def expired(self, now: float) -> "Job":
        """Return the job ended because its time to start ran out; nothing was paid."""
        self._refuse_if_ended()
        message = "The job did not start within the time it was given."
        return self._unmade(
            JobStatus.EXPIRED, Failure(code=FailureCode.EXPIRED, message=message), now
        )

    def overdue(self, now: float) -> "Job | None":
        """Return the job ended by the clock, or None while it still has time to start and to end.

        A job whose first attempt is on record has started, however late.
        """
        if self.is_ended:
            return None
        if self.start_by is not None and self.started_at is None and now > self.start_by:
            return self.expired(now)
        if self.deadline is not None and now >= self.deadline:
            message = "The job's deadline has passed."
            return self.failed(Failure(code=FailureCode.DEADLINE, message=message), now)
        return None

    def accounted(self, number: int, cost: Cost, usage: Usage | None) -> "Job":
        """Return the job with what an attempt turned out to cost, ended or not."""
        attempts = tuple(
            replace(a, costs=(cost,), usage=usage or a.usage) if a.number == number else a
            for a in self.attempts
        )
        return replace(self, attempts=attempts)

    # -- afterwards --------------------------------------------------------------------------------

    def with_image(self, image: Image) -> "Job":
        """Return the ended job with this image in place of the one of its index."""
        if not self.is_ended:
            raise Conflict("The job has not ended yet.", code="job_not_ended")
        images = tuple(image if one.index == image.index else one for one in self.images)
        return replace(self, images=images)

    # -- inside ------------------------------------------------------------------------------------

    def _attempts_left(self, now: float) -> tuple[Attempt, ...]:
        left = self.open_attempt
        if left is None or left.upstream_ids:
            return self.attempts
        return (*self.attempts[:-1], left.abandoned(now))

    def _by_images(self, reason: Failure, now: float) -> "Job":
        ended = self._unmade(JobStatus.FAILED, reason, now)
        made = sum(image.status is ImageStatus.SUCCEEDED for image in ended.images)
        if made == len(ended.images):
            return replace(ended, status=JobStatus.SUCCEEDED, error=None)
        first = next(image.error for image in ended.images if image.error is not None)
        return replace(ended, status=JobStatus.PARTIAL if made else JobStatus.FAILED, error=first)

    def _unmade(self, status: JobStatus, failure: Failure, now: float) -> "Job":
        images = tuple(
            replace(image, status=ImageStatus.FAILED, error=failure)
            if image.status is ImageStatus.PENDING
            else image
            for image in self.images
        )
        return self._ended(status, now, images=images, error=failure)

    def _ended(
        self,
        status: JobStatus,
        now: float,
        *,
        images: tuple[Image, ...],
        error: Failure | None = None,
    ) -> "Job":
        attempts = self.attempts
        if (running := self.open_attempt) is not None:
            attempts = (*attempts[:-1], running.abandoned(now))
        return replace(
            self,
            status=status,
            finished_at=now,
            images=images,
            attempts=attempts,
            error=error,
            fence=None,
        )

    def _with_open_attempt(self, change: Callable[[Attempt], Attempt]) -> "Job":
        if self.open_attempt is None:
            message = f"Job {self.id} has no attempt under way."
            raise Conflict(message)
        return replace(self, attempts=(*self.attempts[:-1], change(self.attempts[-1])))

    def _refuse_if_ended(self) -> None:
        if self.is_ended:
            message = f"The job has already ended as {self.status}."
            raise Superseded(message, code="job_ended")

    def _refuse_if_not_owned(self, fence: str) -> None:
        self._refuse_if_ended()
        if self.fence != fence:
            message = "The job is run by another worker."
            raise Superseded(message, code="job_taken")


def _merged(known: tuple[Adaptation, ...], more: Iterable[Adaptation]) -> tuple[Adaptation, ...]:
    """Keep one word per parameter, the latest: what was measured corrects what was planned."""
    return tuple({warning.param: warning for warning in (*known, *more)}.values())
