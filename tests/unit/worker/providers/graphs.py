"""Small graphs for ComfyUI, as its users save them, with places in them."""

from typing import Any


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def _graph(latent: str, **more: dict[str, Any]) -> dict[str, Any]:
    return {
        "4": _node("CheckpointLoaderSimple", ckpt_name="{{model}}"),
        "6": _node("CLIPTextEncode", text="{{prompt}}", clip=["4", 1]),
        "7": _node("CLIPTextEncode", text="{{negative_prompt}}", clip=["4", 1]),
        "3": _node(
            "KSampler",
            model=["4", 0],
            positive=["6", 0],
            negative=["7", 0],
            latent_image=[latent, 0],
            seed="{{seed}}",
            steps=20,
            cfg=7,
            sampler_name="euler",
            scheduler="normal",
            denoise=1,
        ),
        "8": _node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": _node("SaveImage", images=["8", 0], filename_prefix="Darkroom {{seed}}"),
        **more,
    }


GENERATE = _graph(
    "5",
    **{"5": _node("EmptyLatentImage", width="{{width}}", height="{{height}}", batch_size="{{n}}")},
)
EDIT = _graph(
    "11",
    **{
        "10": _node("LoadImage", image="{{image}}"),
        "11": _node("VAEEncode", pixels=["10", 0], vae=["4", 2]),
    },
)
MASKED = _graph(
    "13",
    **{
        "10": _node("LoadImage", image="{{image}}"),
        "11": _node("VAEEncode", pixels=["10", 0], vae=["4", 2]),
        "12": _node("LoadImageMask", image="{{mask}}", channel="red"),
        "13": _node("SetLatentNoiseMask", samples=["11", 0], mask=["12", 0]),
    },
)
