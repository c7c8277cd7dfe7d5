"""The deployments that ship, and some that could, each moved to the fake of its upstream."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from storage.catalog import Deployment, parse
from storage.dialect import DIALECTS
from tests.unit.worker.providers.graphs import EDIT, GENERATE, MASKED


ROOT = Path(__file__).resolve().parents[2]
POLL = {"poll_seconds": 0.01}
PLACES = {
    "openai": "/openai/v1",
    "ark": "/ark/api/v3",
    "openrouter": "/openrouter/api/v1",
    "gemini": "/gemini/v1beta",
    "zai": "/zai/api/paas/v4",
    "xai": "/xai/v1",
    "chat_relay": "/chat_relay/v1",
    "bfl": "/bfl",
    "fal": "/fal",
    "replicate": "/replicate/v1",
    "stability": "/stability",
    "automatic1111": "/automatic1111",
    "comfyui": "/comfyui",
}


def shipped(upstream: str) -> Iterator[Deployment]:
    """Yield each deployment that ships, at the fake with the address `upstream`."""
    catalog = parse((ROOT / "deploy" / "darkroom.toml").read_text(encoding="utf-8"))
    for deployment in catalog.deployments:
        if deployment.provider in PLACES:
            yield at(upstream, deployment)


def further(upstream: str) -> Iterator[Deployment]:
    """Yield what an operator may add: other doors of the same upstreams, and other ways to ask."""
    azure = {"auth": "api-key", "api_version": "2025-04-01-preview"}
    described: list[tuple[str, str, str, dict[str, Any], dict[str, Any]]] = [
        ("azure", "openai", "gpt-image-2", azure, {}),
        ("openai-json", "openai", "gpt-image-2", {"edits": "json"}, {}),
        ("ark-groups", "ark", "doubao-seedream-4-0-250828", {}, {"n": 10}),
        ("ark-stream", "ark", "doubao-seedream-4-0-250828", {}, {"n": 10, "stream": True}),
        ("openrouter-stream", "openrouter", "openai/gpt-image-2", {}, {"n": 10, "stream": True}),
        (
            "openrouter-chat",
            "openrouter",
            "google/gemini-3.1-flash-image",
            {"api": "chat"},
            {"stream": True},
        ),
        ("zai-tasks", "zai", "glm-image", {"async": True}, {}),
        (
            "fal-inpainting",
            "fal",
            "fal-ai/flux-lora/inpainting",
            {"image_field": "image_url"},
            {"generate": False, "edit": True, "mask": True, "references": 1, "n": 1},
        ),
        ("relay-whole", "chat_relay", "gemini-3-pro-image", {"stream": False}, {}),
        (
            "comfyui-edits",
            "comfyui",
            "sdxl.safetensors",
            {"workflow": GENERATE, "edit_workflow": EDIT, "mask_workflow": json.dumps(MASKED)},
            {"edit": True, "mask": True, "references": 1},
        ),
    ]
    for name, provider, model, options, changes in described:
        can = replace(DIALECTS[provider].capabilities, **changes)
        deployment = Deployment(
            name=name,
            model=model,
            provider=provider,
            upstream_model=model,
            capabilities=can,
            options=options,
        )
        yield at(upstream, deployment)


def at(upstream: str, deployment: Deployment) -> Deployment:
    """Return the deployment at the fake, with tasks asked for quickly."""
    place = PLACES[deployment.provider]
    if "api_version" in deployment.options:
        place = f"/azure/openai/deployments/{deployment.upstream_model}"
    options = {**deployment.options, **POLL}
    return replace(deployment, base_url=f"{upstream}{place}", timeout=20.0, options=options)
