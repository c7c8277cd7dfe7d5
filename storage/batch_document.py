"""The document of a batch: the JSON of the API and the webhooks, in OpenAI's words."""

from typing import Any, Final

from storage.batch import Batch, BatchStatus


_HOUR: Final = 3600.0


def batch_document(batch: Batch) -> dict[str, Any]:
    """Return the JSON of a batch; times are whole Unix seconds."""
    ended = {
        status: _whole(batch.ended_at) if batch.status is status else None
        for status in (BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED)
    }
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": None,
        "input_file_id": batch.input_file_id,
        "completion_window": _window(batch.window),
        "status": batch.status,
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id,
        "created_at": int(batch.created_at),
        "in_progress_at": int(batch.created_at),
        "expires_at": int(batch.expires_at),
        "finalizing_at": _whole(batch.finalizing_at),
        "completed_at": ended[BatchStatus.COMPLETED],
        "failed_at": None,
        "expired_at": ended[BatchStatus.EXPIRED],
        "cancelling_at": _whole(batch.cancelling_at),
        "cancelled_at": ended[BatchStatus.CANCELLED],
        "request_counts": {
            "total": batch.total,
            "completed": batch.completed,
            "failed": batch.failed,
        },
        "metadata": dict(batch.metadata),
        "retry_of": batch.retry_of,
    }


def _window(seconds: float) -> str:
    return f"{round(seconds / _HOUR)}h" if seconds >= _HOUR else f"{round(seconds / 60)}m"


def _whole(moment: float | None) -> int | None:
    return None if moment is None else int(moment)
