"""Stability: one service for each thing to do, always asked by a form, even without a file.

The model is the service below `generate/`: "core", "ultra", or one of the SD3.5 family. An edit
with a mask goes to `edit/inpaint`; one without is a generation that starts from the picture.
Moderation may answer with status 200 and a blurred picture.

What a deployment's `options` may say:

    service = "generate/sd3"        where to generate, if the model's name does not tell
    inpaint = "edit/inpaint"        where to edit within a mask
    strength = 0.65                 how far an edit without a mask may go, 0 to 1
    body = {…}                      further fields for every request, e.g. `style_preset`

An order's options are further fields too; neither can replace what an order says by itself.
"""

import io
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from storage.catalog import Deployment
from storage.failure import Failure, FailureCode
from worker import wire
from worker.complaint import Complaint, code_of
from worker.fields import fields
from worker.provider import Order, Picture, Progress, Reply, Tools
from worker.reply import NO_IMAGE, decoded, replied
from worker.upstream import Upstream, request_id, room


BASE: Final = "/v2beta/stable-image"
STRENGTH: Final = 0.65
_RESERVED: Final = frozenset({"prompt", "model", "mode", "image", "mask"})
_NAMES: Final = {
    "content_moderation": FailureCode.CONTENT_POLICY,
    "unauthorized": FailureCode.AUTH,
    "payment_required": FailureCode.BILLING,
}
_WITHHELD: Final = Failure(
    code=FailureCode.CONTENT_POLICY, message="The upstream's moderation withheld the image."
)
_EXTENSIONS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


class Stability:
    """Generates, starts from a picture, and paints within a mask."""

    def __init__(self, deployment: Deployment, api_key: str | None, tools: Tools) -> None:
        self._imaging = tools.imaging
        self._options = deployment.options
        headers = {"Accept": "application/json"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        self._upstream = Upstream(
            tools.web, deployment, api_key=api_key, headers=headers, judge=judge
        )

    async def generate(self, order: Order, progress: Progress) -> Reply:
        answer = await self._upstream.call(
            "POST",
            f"{BASE}/{self._service(order)}",
            data=await self._form(order),
            limit=room(order),
            prompt=order.prompt,
        )
        body = self._upstream.read(answer, prompt=order.prompt)
        return replied(order, [_outcome(body)], upstream_id=request_id(answer.headers))

    def _service(self, order: Order) -> str:
        if order.mask is not None:
            return str(self._options.get("inpaint", "edit/inpaint"))
        family = "sd3" if order.model.startswith("sd3") else order.model
        return str(self._options.get("service", f"generate/{family}"))

    async def _form(self, order: Order) -> aiohttp.FormData:
        form = aiohttp.FormData(default_to_multipart=True)
        for name, value in self._fields(order).items():
            form.add_field(name, str(value))
        if order.images:
            source = order.images[0]
            _attach(form, "image", source.data, source.content_type)
        if order.mask is not None:
            white = await self._imaging.mask_to_white(order.mask.data)
            _attach(form, "mask", white, "image/png")
        return form

    def _fields(self, order: Order) -> dict[str, Any]:
        from_picture = order.edit and self._service(order).startswith("generate/")
        strength = self._options.get("strength", STRENGTH)
        asked: dict[str, Any] = {
            "prompt": order.prompt,
            "negative_prompt": order.negative_prompt,
            "aspect_ratio": None if order.edit else order.aspect_ratio,
            "seed": order.seed,
            "output_format": order.output_format,
        }
        further = {"strength": strength} if from_picture else {}
        if self._service(order) == "generate/sd3":
            asked["model"] = order.model
            asked["mode"] = "image-to-image" if from_picture else "text-to-image"
        body = self._options.get("body", {})
        return fields(asked, further, body, order.options, reserved=_RESERVED)


def judge(said: Complaint) -> FailureCode:
    """Say what an error of this dialect means: it has a name beside its status."""
    return _NAMES.get(said.code) or code_of(said.status)


def _outcome(body: Mapping[str, Any]) -> Picture | Failure:
    if body.get("finish_reason") == "CONTENT_FILTERED":
        return _WITHHELD
    text = wire.at(body, "image", kind=str)
    return decoded(text) if text else NO_IMAGE


def _attach(form: aiohttp.FormData, name: str, data: bytes, content_type: str) -> None:
    """Add a file under a name of our own: the client's may be anything."""
    filename = f"{name}.{_EXTENSIONS.get(content_type, 'bin')}"
    form.add_field(name, io.BytesIO(data), filename=filename, content_type=content_type)
