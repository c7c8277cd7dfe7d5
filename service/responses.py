"""A job in the words of OpenAI's Responses."""

import re
from typing import Any, Final

from service.errors import failure_error
from service.replies import encoded, format_of, looks, made, usage_of
from storage.failure import Failure, FailureCode
from storage.image import Image
from storage.job import Job, JobId, JobStatus, JobType
from storage.objects import Objects


STATUSES: Final = {
    JobStatus.QUEUED: "queued",
    JobStatus.RUNNING: "in_progress",
    JobStatus.SUCCEEDED: "completed",
    JobStatus.PARTIAL: "completed",
    JobStatus.FAILED: "failed",
    JobStatus.EXPIRED: "failed",
    JobStatus.CANCELLED: "cancelled",
}
_ERRORS: Final = {
    FailureCode.CONTENT_POLICY: "image_content_policy_violation",
    FailureCode.RATE_LIMITED: "rate_limit_exceeded",
    FailureCode.INVALID_REQUEST: "invalid_prompt",
    FailureCode.INVALID_IMAGE: "invalid_image",
}
_RESPONSE: Final = re.compile(r"resp_([0-9a-z]{8,64})")
_CALL: Final = re.compile(r"ig_([0-9a-z]{8,64})_([0-9]{1,2})")


def response_id(job: Job) -> str:
    """Return the name of a job's response."""
    return f"resp_{job.id.removeprefix('job_')}"


def call_id(job: Job, index: int) -> str:
    """Return the name of the tool's call that makes one image."""
    return f"ig_{job.id.removeprefix('job_')}_{index}"


def call_ids(job: Job) -> tuple[str, ...]:
    """Return the names of the calls that made an image."""
    return tuple(call_id(job, image.index) for image in made(job))


def job_id_of(text: str) -> JobId | None:
    """Return the job that a response's name means, or None when it is none."""
    match = _RESPONSE.fullmatch(text)
    return None if match is None else JobId(f"job_{match[1]}")


def image_of(text: str) -> tuple[JobId, int] | None:
    """Return the job and the index that a call's name means, or None when it is none."""
    match = _CALL.fullmatch(text)
    return None if match is None else (JobId(f"job_{match[1]}"), int(match[2]))


async def document_of(
    job: Job, objects: Objects, *, with_output: bool = True, background: bool | None = False
) -> dict[str, Any]:
    """Return the JSON of a response, its images in base64.

    A job does not know whether somebody waits for it: `background` is None where nobody says.
    """
    output = [await call_document(job, image, objects) for image in made(job)]
    if job.text:
        output.append(_message(job))
    return {
        "id": response_id(job),
        "object": "response",
        "created_at": int(job.created_at),
        "completed_at": None if job.finished_at is None else int(job.finished_at),
        "status": STATUSES[job.status],
        "background": background,
        "error": _error(job.error) if job.is_ended and not made(job) else None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": dict(job.metadata),
        "model": job.model,
        "output": output if with_output else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [_tool(job)],
        "usage": _usage(job),
        "job_id": job.id,
    }


async def call_document(job: Job, image: Image, objects: Objects) -> dict[str, Any]:
    """Return the JSON of a tool's call that has made its image."""
    return {
        **call_begun(job, image.index),
        "status": "completed",
        "result": (await encoded(objects, image)).decode("ascii"),
        "revised_prompt": image.revised_prompt,
        "size": f"{image.width}x{image.height}",
        "output_format": format_of(image),
        **{name: value for name, value in looks(job).items() if name in {"quality", "background"}},
    }


def call_begun(job: Job, index: int) -> dict[str, Any]:
    """Return the JSON of a tool's call that is under way."""
    return {
        "id": call_id(job, index),
        "type": "image_generation_call",
        "status": "in_progress",
        "action": "edit" if job.type is JobType.EDIT else "generate",
        "result": None,
    }


def _message(job: Job) -> dict[str, Any]:
    content: dict[str, Any] = {
        "type": "output_text",
        "text": job.text,
        "annotations": [],
        "logprobs": [],
    }
    return {
        "id": f"msg_{job.id.removeprefix('job_')}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [content],
    }


def _tool(job: Job) -> dict[str, Any]:
    request = job.request
    named = ("size", "quality", "background", "output_format", "output_compression", "moderation")
    said = {name: getattr(request, name) for name in named}
    stated = {name: value for name, value in said.items() if value is not None}
    return {"type": "image_generation", "model": job.model, **stated}


def _error(failure: Failure | None) -> dict[str, str] | None:
    if failure is None:
        return None
    code = _ERRORS.get(failure.code, "server_error")
    return {"code": code, "message": failure_error(failure)["error"]["message"]}


def _usage(job: Job) -> dict[str, Any] | None:
    usage = usage_of(job.usage)
    if usage is None:
        return None
    cached = 0 if job.usage is None else job.usage.cached_tokens or 0
    return {
        "input_tokens": usage["input_tokens"],
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": usage["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
    }
