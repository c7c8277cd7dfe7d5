"""The groups of settings that more than one process needs, each beside what it configures.

A group is plain and frozen. A process composes the groups that it needs into its own settings and
hands each class its group, never the whole. Seconds are floats; every other unit is in the name.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator


class RedisSettings(BaseModel, frozen=True, extra="forbid"):
    """The one Redis of a cell: records, queue and wake-ups."""

    url: str = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,
        description="Where Redis is; may carry a password, so it is never printed",
    )
    socket_timeout: float = Field(
        2.0, gt=0, le=60, description="Seconds to wait for one answer of Redis"
    )
    connect_timeout: float = Field(
        1.0, gt=0, le=60, description="Seconds to wait for a connection to Redis"
    )
    max_connections: int = Field(
        32, ge=4, le=1024, description="Connections of one process to Redis"
    )
    allow_eviction: bool = Field(
        default=False,
        description="Start although Redis may evict records (its policy is not noeviction)",
    )


class ObjectsSettings(BaseModel, frozen=True, extra="forbid"):
    """Where bytes are kept: a folder, or a bucket that speaks S3."""

    kind: Literal["local", "s3"] = Field(
        "local", description="local: a folder and links of our own; s3: a bucket"
    )
    path: Path = Field(
        Path(".darkroom/objects"), description="local: the folder that holds the objects"
    )
    fsync: bool = Field(
        default=True,
        description="local: wait for the disk before an object counts as kept",
    )
    bucket: str = Field("", description="s3: the bucket, which must exist")
    prefix: str = Field("", description="s3: put before every key, such as darkroom/")
    endpoint_url: str | None = Field(
        None, description="s3: the server, when it is not AWS (MinIO, Ceph, R2, …)"
    )
    public_endpoint_url: str | None = Field(
        None,
        description="s3: the same server as clients reach it, for links; default: endpoint_url",
    )
    region: str | None = Field(
        None, description="s3: the region to sign for; default: what boto3 finds, else us-east-1"
    )
    addressing_style: Literal["path", "virtual", "auto"] = Field(
        "auto", description="s3: bucket in the path or in the host name; most own servers need path"
    )
    connect_timeout: float = Field(
        3.0, gt=0, le=30, description="s3: seconds to wait for a connection, or to send one block"
    )
    read_timeout: float = Field(
        20.0, gt=0, le=60, description="s3: seconds to wait for the next bytes of an answer"
    )
    operation_timeout: float = Field(
        60.0, gt=0, le=60, description="s3: seconds for one operation, its retries included"
    )
    max_attempts: int = Field(
        3, ge=1, le=5, description="s3: tries of one operation, with backoff between them"
    )
    max_connections: int = Field(
        16, ge=1, le=256, description="s3: operations of one process at the same time"
    )
    unsigned_payload: bool = Field(
        default=True,
        description="s3: over TLS, leave uploads out of the signature (less CPU; TLS guards them)",
    )
    verify_uploads: bool = Field(
        default=True,
        description="s3: compare the server's MD5 with what was sent (3 ms CPU for 2 MB)",
    )
    checksum: Literal["when_required", "when_supported"] = Field(
        "when_required",
        description="s3: botocore's own checksums; when_supported fails on Ceph and older servers",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.kind == "s3" and not self.bucket:
            raise ValueError("objects of kind s3 need a bucket")
        return self


class RetentionSettings(BaseModel, frozen=True, extra="forbid"):
    """How long things are remembered."""

    days: float = Field(
        7.0, gt=0, le=3650, description="Days that an ended job and its images are kept"
    )
    idempotency_hours: float = Field(
        24.0, gt=0, le=720, description="Hours that an Idempotency-Key finds its job again"
    )
    orphan_hours: float = Field(
        24.0, ge=1, le=720, description="Hours before an object that no job names is swept"
    )
