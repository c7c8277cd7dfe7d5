"""Records for tests, each whole and plain; a test changes only what it is about."""

from typing import Any

from storage.catalog import Deployment, Price
from storage.dialect import Capabilities
from storage.endpoint import EndpointId, WebhookEndpoint
from storage.event import ENDINGS
from storage.failure import Failure, FailureCode
from storage.image import Image, ImageStatus
from storage.job import Job, JobId, JobType
from storage.keyring import Keyring, SigningKey
from storage.request import Input, Request


NOW = 1_800_000_000.0


def a_request(**fields: Any) -> Request:
    return Request(**{"prompt": "a lighthouse at dusk", **fields})


def a_job(job_id: str = "job_1", *, n: int = 1, edit: bool = False, **fields: Any) -> Job:
    """Return a queued job of `n` images, with a request of its own unless one is given."""
    images = (Input(key=f"t/acme/{job_id}/in/0.png"),) if edit else ()
    whole = {
        "id": JobId(job_id),
        "tenant": "acme",
        "type": JobType.EDIT if edit else JobType.GENERATION,
        "model": "painter",
        "request": a_request(n=n, images=images),
        "created_at": NOW,
        "images": tuple(Image(index=index) for index in range(n)),
        **fields,
    }
    return Job(**whole)


def an_endpoint(endpoint_id: str = "we_1", **fields: Any) -> WebhookEndpoint:
    """Return an enabled endpoint that hears of every ending; its key opens in no vault."""
    key = SigningKey(id="wk_1", sealed="", public="", created_at=NOW)
    whole = {
        "id": EndpointId(endpoint_id),
        "tenant": "acme",
        "url": "https://example.com/hook",
        "keyring": Keyring(id=f"wr_{endpoint_id}", keys=(key,)),
        "created_at": NOW,
        "events": ENDINGS,
        **fields,
    }
    return WebhookEndpoint(**whole)


def a_deployment(name: str = "first", **fields: Any) -> Deployment:
    """Return a deployment of the model `painter` that needs no key; `can` are its capabilities."""
    can = {"edit": True, "mask": True, "references": 4, "n": 4, **fields.pop("can", {})}
    whole = {
        "name": name,
        "model": "painter",
        "provider": "sketch",
        "upstream_model": "painter",
        "capabilities": Capabilities(**can),
        "price": Price(per_image=0.05),
        "timeout": 5.0,
        **fields,
    }
    return Deployment(**whole)


def a_picture(index: int = 0, *, attempt: int = 1) -> Image:
    """Return image `index` as it is once it has been made and kept."""
    return Image(
        index=index,
        status=ImageStatus.SUCCEEDED,
        key=f"t/acme/job_1/{attempt}/{index}.png",
        content_type="image/png",
        width=1024,
        height=1024,
        bytes=1000,
        sha256="0" * 64,
        attempt=attempt,
    )


def a_refusal(index: int = 0, *, attempt: int = 1) -> Image:
    """Return image `index` as it is once the upstream has refused to make it."""
    error = Failure(code=FailureCode.CONTENT_POLICY, message="The upstream refused.")
    return Image(index=index, status=ImageStatus.FAILED, attempt=attempt, error=error)
