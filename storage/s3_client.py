"""How boto3 is set up for an object store, and what its failures mean.

There are two endings for whoever keeps bytes: try again, or call the operator. botocore has some
eighty. Their texts name the bucket, the host and sometimes the access key, so none of them is
repeated: what remains is the store's own code for it.
"""

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore import exceptions
from botocore.config import Config
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from storage.objects import ObjectsRefused, ObjectsUnavailable
from storage.settings import ObjectsSettings


if TYPE_CHECKING:
    from types_boto3_s3 import S3Client


ABSENT: Final = frozenset({"NoSuchKey", "NotFound", "404"})
TRANSIENT: Final = frozenset(
    {
        "BadDigest",
        "IncompleteBody",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "XAmzContentSHA256Mismatch",
    }
)
UNREACHED: Final = (
    exceptions.ConnectionError,
    exceptions.CredentialRetrievalError,
    exceptions.HTTPClientError,
    exceptions.IncompleteReadError,
    exceptions.MetadataRetrievalError,
    exceptions.UnseekableStreamError,
    ResponseParserError,
    HTTPError,
    OSError,
)
FAILURES: Final = (exceptions.ClientError, exceptions.BotoCoreError, *UNREACHED)


def open_client(settings: ObjectsSettings, endpoint_url: str | None) -> "S3Client":
    """Return a client for the store, or raise `ObjectsRefused` for settings that cannot be.

    Nothing is dialled. Credentials come from boto3's own chain.
    """
    try:
        client = _client(settings, endpoint_url, unsigned=settings.unsigned_payload)
        if settings.unsigned_payload and not client.meta.endpoint_url.startswith("https:"):
            # Only now is it known: the environment may name the endpoint too. Without TLS the
            # signature is all that guards the bytes.
            client = _client(settings, endpoint_url, unsigned=False)
    except (exceptions.BotoCoreError, ValueError) as error:
        raise ObjectsRefused(f"The object store cannot be set up: {error}") from error
    client.meta.events.register_last("before-call.s3.PutObject", _without_expect)
    client.meta.events.register_first("before-sign.s3.DeleteObjects", _with_md5)
    return client


def code_of(error: exceptions.ClientError) -> str:
    """Return the store's own word for what went wrong; empty when it gave none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_absent(error: exceptions.ClientError) -> bool:
    """Say whether there is no such object; a bucket that is not there is another matter."""
    return code_of(error) in ABSENT


def refusal(error: Exception) -> ObjectsUnavailable | ObjectsRefused:
    """Return what one of `FAILURES` means to whoever keeps bytes."""
    if isinstance(error, exceptions.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return judged(code_of(error), status)
    if isinstance(error, UNREACHED):
        return ObjectsUnavailable(f"The object store is out of reach ({type(error).__name__}).")
    return ObjectsRefused(f"The object store cannot be used ({type(error).__name__}).")


def judged(code: str, status: int) -> ObjectsUnavailable | ObjectsRefused:
    """Return what an answer of the store with this code and HTTP status means."""
    said = re.sub(r"[^A-Za-z0-9]", "", code)[:60] or str(status)
    passing = status in (408, 429) or (status >= 500 and status != 501)
    if passing or code in TRANSIENT:
        return ObjectsUnavailable(f"The object store cannot answer now ({said}).")
    return ObjectsRefused(f"The object store refused ({said}).")


def _client(settings: ObjectsSettings, endpoint_url: str | None, *, unsigned: bool) -> "S3Client":
    session = boto3.session.Session(region_name=settings.region)
    return session.client(
        "s3",
        region_name=session.region_name or "us-east-1",
        endpoint_url=endpoint_url,
        config=Config(
            signature_version="s3v4",
            s3={
                "addressing_style": settings.addressing_style,
                **({"payload_signing_enabled": False} if unsigned else {}),
            },
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            retries={"mode": "standard", "total_max_attempts": settings.max_attempts},
            max_pool_connections=settings.max_connections,
            request_checksum_calculation=settings.checksum,
            response_checksum_validation=settings.checksum,
            tcp_keepalive=True,
        ),
    )


def _without_expect(params: dict[str, Any], **_: object) -> None:
    """Send the body at once: an image is smaller than the round trip that asks for leave."""
    params["headers"].pop("Expect", None)


def _with_md5(request: Any, **_: object) -> None:
    """Add the checksum that every server knows: older ones refuse a batch with only a newer one."""
    digest = hashlib.md5(request.data, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()
