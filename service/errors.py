"""Which status a refusal becomes, said here and nowhere else, and the one shape of every error.

The body is OpenAI's on every route, so that any client of theirs reads it. What is not foreseen
leaves as a plain 500 and is logged once, with its trace.
"""

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson
import structlog
from aiohttp import HttpVersion10, HttpVersion11, web

from service.auth import Unauthenticated
from service.limits import TooSlow, UnsupportedBody
from service.logs import route_of
from storage.errors import (
    Conflict,
    Error,
    Forbidden,
    Invalid,
    Missing,
    TooLarge,
    TooMany,
    Unavailable,
)
from storage.failure import Failure, FailureCode
from storage.job import Job
from storage.objects import ObjectsRefused


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_USER: Final = "invalid_request_error"
_SERVER: Final = "server_error"


class _Answer(NamedTuple):
    status: int
    type: str
    code: str


# A class stands for its children, the nearest wins.
_REFUSALS: Final[Mapping[type[Error], _Answer]] = {
    Invalid: _Answer(400, _USER, "invalid_request"),
    Unauthenticated: _Answer(401, "authentication_error", "invalid_api_key"),
    Forbidden: _Answer(403, "permission_error", "forbidden"),
    Missing: _Answer(404, _USER, "not_found"),
    TooSlow: _Answer(408, _USER, "body_timeout"),
    Conflict: _Answer(409, _USER, "conflict"),
    TooLarge: _Answer(413, _USER, "too_large"),
    UnsupportedBody: _Answer(415, _USER, "unsupported_media_type"),
    TooMany: _Answer(429, "rate_limit_error", "rate_limit_exceeded"),
    ObjectsRefused: _Answer(500, _SERVER, "objects_refused"),
    Unavailable: _Answer(503, _SERVER, "unavailable"),
    Error: _Answer(500, _SERVER, "internal_error"),
}
_SPOKEN: Final = frozenset({HttpVersion10, HttpVersion11})
_BY_CODE: Final = {"idempotency_key_reused": 422, "budget_exceeded": 402}

# What a synchronous client is told of a job that ended badly.
_FAILURES: Final[Mapping[FailureCode, _Answer]] = {
    FailureCode.INVALID_REQUEST: _Answer(400, _USER, "invalid_request"),
    FailureCode.INVALID_IMAGE: _Answer(400, _USER, "invalid_image"),
    FailureCode.CONTENT_POLICY: _Answer(400, "image_generation_user_error", "moderation_blocked"),
    FailureCode.AUTH: _Answer(502, _SERVER, "upstream_auth"),
    FailureCode.PERMISSION: _Answer(502, _SERVER, "upstream_permission"),
    FailureCode.BILLING: _Answer(502, _SERVER, "upstream_billing"),
    FailureCode.MODEL_NOT_FOUND: _Answer(502, _SERVER, "upstream_model_not_found"),
    FailureCode.NO_IMAGE: _Answer(502, _SERVER, "no_image"),
    FailureCode.RATE_LIMITED: _Answer(429, "rate_limit_error", "rate_limit_exceeded"),
    FailureCode.OVERLOADED: _Answer(503, _SERVER, "overloaded"),
    FailureCode.UPSTREAM_ERROR: _Answer(502, _SERVER, "upstream_error"),
    FailureCode.UPSTREAM_TIMEOUT: _Answer(504, _SERVER, "upstream_timeout"),
    FailureCode.OUTCOME_UNKNOWN: _Answer(502, _SERVER, "outcome_unknown"),
    FailureCode.NO_DEPLOYMENT: _Answer(503, _SERVER, "no_deployment"),
    FailureCode.STORAGE_ERROR: _Answer(503, _SERVER, "storage_error"),
    FailureCode.INTERNAL_ERROR: _Answer(500, _SERVER, "internal_error"),
    FailureCode.INTERNAL_CRASH: _Answer(500, _SERVER, "internal_crash"),
    FailureCode.DEADLINE: _Answer(504, _SERVER, "deadline"),
    FailureCode.EXPIRED: _Answer(504, _SERVER, "expired"),
    FailureCode.CANCELLED: _Answer(409, _USER, "cancelled"),
}
_HTTP_WORDS: Final = {
    404: "There is nothing at this address.",
    405: "This address does not take this method.",
}


class JobFailed(Error):
    """The job that a client waited for ended without an image."""

    def __init__(self, job: Job, failure: Failure) -> None:
        super().__init__(failure.message, code=failure.code)
        self.job = job
        self.failure = failure


class StillRunning(Error):
    """The wait of a synchronous door is over and the job goes on."""

    def __init__(self, job: Job) -> None:
        super().__init__(
            f"The job {job.id} is still running; read it at GET /v1/jobs/{job.id}.",
            code="still_running",
        )
        self.job = job


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever is raised into an answer."""
    if request.version not in _SPOKEN:
        return response_of(Invalid("Speak HTTP/1.1 or HTTP/1.0.", code="bad_request"))
    try:
        return await handler(request)
    except Error as error:
        answer = response_of(error)
        if answer.status == 500:
            structlog.get_logger().error("fault", route=route_of(request), code=error.code)
        return answer
    except web.HTTPException as error:
        return _of_http(error)
    except (ConnectionError, TimeoutError):
        raise
    except Exception:  # noqa: BLE001 — the last resort; it is logged with its trace
        structlog.get_logger().exception("unforeseen", route=route_of(request))
        return error_response(500, _SERVER, "internal_error", "Something went wrong on our side.")


def response_of(error: Error) -> web.Response:
    """Return the answer that a refusal becomes."""
    if isinstance(error, JobFailed):
        return _of_failure(error)
    if isinstance(error, StillRunning):
        return error_response(
            504, _SERVER, "still_running", error.message, headers=_job_headers(error.job)
        )
    answer = next(_REFUSALS[kind] for kind in type(error).__mro__ if kind in _REFUSALS)
    status = _BY_CODE.get(error.code or "", answer.status)
    headers: dict[str, str] = {}
    if isinstance(error, TooMany | Unavailable):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="darkroom"'
    message = error.message if status != 500 else "Something went wrong on our side."
    return error_response(
        status, answer.type, error.code or answer.code, message, param=error.param, headers=headers
    )


def error_response(
    status: int,
    kind: str,
    code: str,
    message: str,
    *,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Return an error in the one shape that all have."""
    return web.Response(
        body=orjson.dumps(error_document(kind, code, message, param=param)),
        status=status,
        headers=headers,
        content_type="application/json",
    )


def error_document(
    kind: str, code: str, message: str, *, param: str | None = None
) -> dict[str, dict[str, Any]]:
    """Return the JSON of an error."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def failure_error(failure: Failure) -> dict[str, dict[str, Any]]:
    """Return the JSON of the error that a synchronous client is told of a failure."""
    answer = _FAILURES[failure.code]
    return error_document(answer.type, answer.code, failure.message)


def end_error(job: Job) -> dict[str, dict[str, Any]]:
    """Return the JSON of the error with which a stream ends that has nothing to show."""
    if job.error is not None:
        return failure_error(job.error)
    return error_document(_SERVER, "still_running", f"The job {job.id} is still running.")


def _of_failure(error: JobFailed) -> web.Response:
    answer = _FAILURES[error.failure.code]
    return error_response(
        answer.status,
        answer.type,
        answer.code,
        error.message,
        headers=_job_headers(error.job),
    )


def _job_headers(job: Job) -> dict[str, str]:
    """Lead to the job, and keep OpenAI's clients from making another one by themselves."""
    return {"Location": f"/v1/jobs/{job.id}", "X-Job-Id": job.id, "x-should-retry": "false"}


def _of_http(error: web.HTTPException) -> web.Response:
    """Answer for aiohttp, whose own words can repeat what a stranger sent."""
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    message = _HTTP_WORDS.get(error.status, "The request cannot be read.")
    kind = _USER if error.status < 500 else _SERVER
    code = {404: "not_found", 405: "method_not_allowed", 413: "request_too_large"}.get(
        error.status, "bad_request"
    )
    return error_response(error.status, kind, code, message, headers=headers)
