"""Which dialects the fake speaks: each line mounts one class under `/<name>`."""

from importlib import import_module

from tests.upstream.dialects.dialect import Dialect


DIALECTS = {
    "openai": "openai:OpenAI",
    "azure": "openai:Azure",
    "ark": "ark:Ark",
    "openrouter": "openrouter:OpenRouter",
    "gemini": "gemini:Gemini",
    "zai": "zai:ZAI",
    "xai": "xai:XAI",
    "chat_relay": "chat_relay:ChatRelay",
    "bfl": "bfl:BFL",
    "fal": "fal:Fal",
    "replicate": "replicate:Replicate",
    "stability": "stability:Stability",
    "automatic1111": "automatic1111:Automatic1111",
    "comfyui": "comfyui:ComfyUI",
}


def load(name: str) -> type[Dialect]:
    """Return the class of the dialect `name`."""
    module, _, attribute = DIALECTS[name].partition(":")
    found: type[Dialect] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return found
