"""A batch: thousands of requests from one file, made as jobs of low priority, answered in one file.

Its plan is an object with a line for each request, made when the batch was taken in; the record
says how far the plan has been followed: `fed` lines have become jobs, `settled` of those have been
counted. Both only grow, and a line always becomes the same job, so whoever goes on after a crash
repeats some steps and changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NewType

from storage.errors import Conflict


BatchId = NewType("BatchId", str)

ENDPOINTS = ("/v1/images/generations", "/v1/images/edits", "/v1/jobs")
PRIORITY = -1
PREFIX = "batch_"


class BatchStatus(StrEnum):
    """Where a batch stands, in OpenAI's words."""

    IN_PROGRESS = "in_progress"
    CANCELLING = "cancelling"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_ended(self) -> bool:
        """Say whether nothing more will happen to such a batch."""
        return self in {BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How far a plan has been followed: whole lines, and the bytes that they take."""

    lines: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Many requests of one tenant. Times are Unix seconds.

    `plan` tells its plan from any other that was begun for it. `window` is in seconds, from
    `created_at` on. Of `total` requests, `completed` have made
    images and `failed` none, those among them that never became a job.
    """

    id: BatchId
    tenant: str
    endpoint: str
    created_at: float
    window: float
    plan: str
    total: int = 0
    input_file_id: str | None = None
    retry_of: str | None = None
    status: BatchStatus = BatchStatus.IN_PROGRESS
    fed: Place = field(default_factory=Place)
    settled: Place = field(default_factory=Place)
    completed: int = 0
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    cancelling_at: float | None = None
    finalizing_at: float | None = None
    ended_at: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    webhook_url: str | None = field(default=None, repr=False)
    version: int = 0

    @property
    def is_ended(self) -> bool:
        """Say whether the batch has reached its one terminal state."""
        return self.status.is_ended

    @property
    def expires_at(self) -> float:
        """Return the moment after which no more of its jobs start."""
        return self.created_at + self.window

    @property
    def plan_key(self) -> str:
        """Return the key of the object that holds the plan."""
        return f"{self.folder}plan-{self.plan}.jsonl"

    @property
    def folder(self) -> str:
        """Return the folder in which the batch's own objects lie."""
        return f"t/{self.tenant}/{self.id}/"

    def is_same_request(self, other: "Batch") -> bool:
        """Say whether both were asked for in the same words."""
        return (
            self.input_file_id == other.input_file_id
            and self.endpoint == other.endpoint
            and self.window == other.window
            and self.retry_of == other.retry_of
        )

    def feeds(self, now: float) -> bool:
        """Say whether further lines become jobs."""
        return (
            self.status is BatchStatus.IN_PROGRESS
            and now < self.expires_at
            and self.fed.lines < self.total
        )

    def is_counted(self, now: float) -> bool:
        """Say whether all is counted that will ever be."""
        return not self.feeds(now) and self.settled.lines >= self.fed.lines

    def counted(self, place: Place, *, completed: int, failed: int) -> "Batch":
        """Return the batch with jobs counted up to a place of its plan."""
        return replace(
            self,
            settled=place,
            completed=self.completed + completed,
            failed=self.failed + failed,
        )

    def cancelling(self, now: float) -> "Batch":
        """Return the batch as it ends early; raises `Conflict` when it has ended or is about to."""
        if self.status is BatchStatus.CANCELLING:
            return self
        if self.status is not BatchStatus.IN_PROGRESS:
            raise Conflict(f"The batch is {self.status} already.", code="batch_ended")
        return replace(self, status=BatchStatus.CANCELLING, cancelling_at=now)

    def finalizing(self, now: float) -> "Batch":
        """Return the batch with all its jobs ended, to be answered."""
        status = self.status
        if status is BatchStatus.IN_PROGRESS:
            status = BatchStatus.FINALIZING
        return replace(self, status=status, finalizing_at=self.finalizing_at or now)

    def ended(self, output: str | None, errors: str | None, now: float) -> "Batch":
        """Return the batch answered; what never became a job counts as failed."""
        status = BatchStatus.COMPLETED
        if self.status is BatchStatus.CANCELLING:
            status = BatchStatus.CANCELLED
        elif self.fed.lines < self.total:
            status = BatchStatus.EXPIRED
        return replace(
            self,
            status=status,
            failed=self.total - self.completed,
            output_file_id=output,
            error_file_id=errors,
            ended_at=now,
        )
