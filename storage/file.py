"""A file: an image that a client brought before any job, to be named in many."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NewType


FileId = NewType("FileId", str)


class FileStatus(StrEnum):
    """Whether the bytes are there: `pending` waits for them to be uploaded."""

    PENDING = "pending"
    PROCESSED = "processed"


class Purpose(StrEnum):
    """What a file is for: an input of jobs, the requests of a batch, or what a batch answered."""

    VISION = "vision"
    USER_DATA = "user_data"
    BATCH = "batch"
    BATCH_OUTPUT = "batch_output"

    @property
    def is_image(self) -> bool:
        """Say whether such a file is an image."""
        return self in {Purpose.VISION, Purpose.USER_DATA}


_EXTENSIONS = {"image/jpeg": "jpg"}


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of a tenant, until `expires_at` (Unix seconds).

    `content_type` and `bytes` are what was announced while it is pending, and measured after that;
    `filename` is the client's own word and names nothing.
    """

    id: FileId
    tenant: str
    filename: str = field(repr=False)
    purpose: Purpose
    content_type: str
    bytes: int
    created_at: float
    expires_at: float
    status: FileStatus = FileStatus.PROCESSED
    width: int | None = None
    height: int | None = None
    sha256: str | None = None

    @property
    def key(self) -> str:
        """Return the key of the object that holds the bytes."""
        kind = self.content_type.rpartition("/")[2]
        return f"t/{self.tenant}/{self.id}/0.{_EXTENSIONS.get(self.content_type, kind)}"

    def uploaded(self, width: int, height: int) -> "File":
        """Return the file with its bytes there and measured."""
        return replace(self, status=FileStatus.PROCESSED, width=width, height=height)
