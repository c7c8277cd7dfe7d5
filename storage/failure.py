"""Failures: why a job, an attempt or an image ended badly, kept as data inside the job.

The codes are the normal forms of what upstreams, the object storage and our own processes say.
Whether trying again can help is a property of the code and is decided nowhere else.
"""

from dataclasses import dataclass
from enum import StrEnum


class FailureCode(StrEnum):
    """One normal form for the many ways of upstreams to say no."""

    INVALID_REQUEST = "invalid_request"
    INVALID_IMAGE = "invalid_image"
    CONTENT_POLICY = "content_policy"
    AUTH = "auth"
    PERMISSION = "permission"
    BILLING = "billing"
    MODEL_NOT_FOUND = "model_not_found"
    NO_IMAGE = "no_image"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    OUTCOME_UNKNOWN = "outcome_unknown"
    NO_DEPLOYMENT = "no_deployment"
    STORAGE_ERROR = "storage_error"
    INTERNAL_ERROR = "internal_error"
    INTERNAL_CRASH = "internal_crash"
    DEADLINE = "deadline"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def retryable(self) -> bool:
        """Say whether the same request may succeed at the same deployment a little later."""
        return self in _RETRYABLE

    @property
    def elsewhere(self) -> bool:
        """Say whether another deployment of the model may succeed where this one failed.

        A refusal by moderation never is: it is not shopped around.
        """
        return self in _RETRYABLE or self in _CREDENTIAL or self is FailureCode.MODEL_NOT_FOUND

    @property
    def credential(self) -> bool:
        """Say whether the deployment's key is at fault, so that no other job should try it."""
        return self in _CREDENTIAL


_RETRYABLE = frozenset(
    {
        FailureCode.NO_IMAGE,
        FailureCode.RATE_LIMITED,
        FailureCode.OVERLOADED,
        FailureCode.UPSTREAM_ERROR,
        FailureCode.UPSTREAM_TIMEOUT,
    }
)
_CREDENTIAL = frozenset({FailureCode.AUTH, FailureCode.PERMISSION, FailureCode.BILLING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no image; `message` is what the caller reads and never holds a secret."""

    code: FailureCode
    message: str
