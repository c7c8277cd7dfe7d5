"""How boto3 is set up for an object store, and what its failures mean.

There are two endings for whoever keeps bytes: try again, or call the operator. botocore has some
eighty. Their texts name the bucket, the host and sometimes the access key, so none of them is
repeated: what remains is the store's own code for it.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import boto3
from botocore import exceptions
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
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


class Signer:
    """Signs what a GET of one bucket may ask, for a third of the client's own price.

    The client works out anew for every URL where the bucket is; here it is asked once.
    """

    def __init__(self, client: "S3Client", session: boto3.session.Session, bucket: str) -> None:
        self._client = client
        self._session = session
        self._bucket = bucket
        self._base = ""

    def sign(self, name: str, said: Mapping[str, str], *, seconds: int) -> str:
        """Return the URL of the object with these signed parameters, good for so many seconds.

        Raises `ObjectsRefused` when boto3's chain has no credentials.
        """
        try:
            credentials = self._session.get_credentials()
            if credentials is None:
                raise exceptions.NoCredentialsError
            if not self._base:
                self._base = self._located()
            frozen = credentials.get_frozen_credentials()
        except FAILURES as error:
            raise refusal(error) from None
        request = AWSRequest("GET", self._base + quote(name, safe="/~"), params=dict(said))
        region = self._client.meta.region_name
        S3SigV4QueryAuth(frozen, "s3", region, expires=seconds).add_auth(request)
        return str(request.url)

    def _located(self) -> str:
        params = {"Bucket": self._bucket, "Key": "-"}
        url = self._client.generate_presigned_url("get_object", Params=params)
        return url.partition("?")[0].removesuffix("-")


def open_session(settings: ObjectsSettings) -> boto3.session.Session:
    """Return a session that finds its credentials through boto3's own chain."""
    try:
        return boto3.session.Session(region_name=settings.region)
    except exceptions.BotoCoreError as error:
        raise ObjectsRefused(f"The object store cannot be set up: {error}") from error


def open_client(
    session: boto3.session.Session, settings: ObjectsSettings, endpoint_url: str | None
) -> "S3Client":
    """Return a client for the store, or raise `ObjectsRefused` for settings that cannot be.

    Nothing is dialled.
    """
    # Without TLS the signature is all that guards the bytes.
    unsigned = settings.unsigned_payload and not (endpoint_url or "").startswith("http:")
    try:
        client = _client(session, settings, endpoint_url, unsigned=unsigned)
        if unsigned and not client.meta.endpoint_url.startswith("https:"):
            # Only now is it known: the environment may name an endpoint too.
            client = _client(session, settings, endpoint_url, unsigned=False)
    except (exceptions.BotoCoreError, ValueError) as error:
        raise ObjectsRefused(f"The object store cannot be set up: {error}") from error
    client.meta.events.register_last("before-call.s3", _without_expect)
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


def _client(
    session: boto3.session.Session,
    settings: ObjectsSettings,
    endpoint_url: str | None,
    *,
    unsigned: bool,
) -> "S3Client":
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
