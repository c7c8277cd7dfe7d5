"""The S3 server as fixtures: one server for the session, one bucket for a test.

A module that uses them imports all three: pytest finds a fixture where its name is.
"""

import secrets
from collections.abc import Callable, Iterator

import boto3
import pytest
from botocore.config import Config

from tests.s3server.server import S3Server, running


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server on loopback; fails, with the reason, where it cannot run."""
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def s3_buckets(s3_server: S3Server) -> Iterator[Callable[[str], None]]:
    """Create a bucket of this name."""
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.url,
        region_name=s3_server.region,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )

    def create(bucket: str) -> None:
        client.create_bucket(Bucket=bucket)

    yield create
    client.close()


@pytest.fixture
def s3_bucket(
    s3_server: S3Server, s3_buckets: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> str:
    """An empty bucket of this test, and its credentials where boto3 looks for them."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"test-{secrets.token_hex(8)}"
    s3_buckets(bucket)
    return bucket
