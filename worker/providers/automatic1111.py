"""AUTOMATIC1111, Forge, and what copies their API: a server of one's own, one picture at a time.

Calls wait behind one lock without a word, so a long silence is normal and the timeout should allow
for it. The key, if there is one, is "user:password".

What a deployment's `options` may say:

    checkpoint = "sd_xl_base_1.0"   load this model for each request, and leave it loaded
    body = {…}                      further fields for every request, e.g. `steps`, `sampler_name`,
                                    `denoising_strength`, `inpainting_fill`

An order's options are further fields too; neither can replace what an order says by itself, or run
scripts at the server.
"""

import base64
from typing import Any, Final

from storage.catalog import Deployment
from storage.failure import FailureCode
from worker import wire
from worker.complaint import Complaint, code_of
from worker.fields import fields
from worker.provider import Order, Progress, Reply, Tools
from worker.reply import decoded, replied
from worker.upstream import Upstream, request_id, room


BASE: Final = "/sdapi/v1"
STEP: Final = 8
_SMALLEST: Final = 64
_RESERVED: Final = frozenset(
    {"prompt", "batch_size", "n_iter", "init_images", "mask", "send_images"}
)
_OF_THE_OPERATOR: Final = frozenset(
    {"script_name", "script_args", "alwayson_scripts", "save_images", "styles"}
    | {"override_settings", "override_settings_restore_afterwards"}
)


class Automatic1111:
    """Generates with txt2img; edits with img2img, within a mask if there is one."""

    def __init__(self, deployment: Deployment, api_key: str | None, tools: Tools) -> None:
        self._imaging = tools.imaging
        self._options = deployment.options
        self._most = deployment.capabilities.max_edge
        headers = {}
        if api_key is not None:
            coded = base64.b64encode(api_key.encode()).decode()
            headers["Authorization"] = f"Basic {coded}"
        self._upstream = Upstream(
            tools.web, deployment, api_key=api_key, headers=headers, judge=judge
        )

    async def generate(self, order: Order, progress: Progress) -> Reply:
        answer = await self._upstream.call(
            "POST",
            f"{BASE}/{'img2img' if order.edit else 'txt2img'}",
            json=await self._fields(order),
            limit=2 * room(order),
            prompt=order.prompt,
        )
        body = self._upstream.read(answer, prompt=order.prompt)
        images = wire.at(body, "images", kind=list) or []
        # A grid of all pictures may stand before them.
        outcomes = [decoded(text) for text in images[-order.n :] if isinstance(text, str)]
        return replied(order, outcomes, upstream_id=request_id(answer.headers))

    async def _fields(self, order: Order) -> dict[str, Any]:
        width, height = order.width, order.height
        asked: dict[str, Any] = {
            "prompt": order.prompt,
            "negative_prompt": order.negative_prompt,
            "seed": order.seed,
            "batch_size": order.n if order.n != 1 else None,
        }
        if order.edit:
            asked["init_images"] = [wire.encode(source.data) for source in order.images[:1]]
            # Unsaid, the result would be 512x512 whatever the picture is.
            if width is None or height is None:
                width, height = self._near(order.images[0].width, order.images[0].height)
        if order.mask is not None:
            asked["mask"] = wire.encode(await self._imaging.mask_to_white(order.mask.data))
        if (checkpoint := self._options.get("checkpoint")) is not None:
            asked["override_settings"] = {"sd_model_checkpoint": str(checkpoint)}
            asked["override_settings_restore_afterwards"] = False
        asked |= {"width": width, "height": height}
        wishes = fields({}, order.options, reserved=_OF_THE_OPERATOR)
        return fields(asked, self._options.get("body", {}), wishes, reserved=_RESERVED)

    def _near(self, width: int, height: int) -> tuple[int, int]:
        """Return the nearest size that the server makes, in the same proportion."""
        shrink = min(1.0, self._most / max(width, height))
        fit = [max(round(edge * shrink / STEP) * STEP, _SMALLEST) for edge in (width, height)]
        return fit[0], fit[1]


def judge(said: Complaint) -> FailureCode:
    """Say what an error of this dialect means: 404 is about a picture, not the one model."""
    if said.status == 404 and "init image" in said.message.lower():
        return FailureCode.INVALID_IMAGE
    return code_of(said.status)
