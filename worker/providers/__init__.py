"""Where the providers are kept: one module for each wire dialect, imported when first asked for."""

from collections.abc import Iterator, Mapping
from importlib import import_module

from worker.provider import Provider


_CLASSES = {
    "sketch": "sketch.Sketch",
    "openai": "openai.OpenAI",
    "ark": "ark.Ark",
    "openrouter": "openrouter.OpenRouter",
    "gemini": "gemini.Gemini",
    "zai": "zai.ZAI",
    "xai": "xai.XAI",
    "chat_relay": "chat_relay.ChatRelay",
    "bfl": "bfl.BFL",
    "fal": "fal.Fal",
    "replicate": "replicate.Replicate",
    "stability": "stability.Stability",
    "automatic1111": "automatic1111.Automatic1111",
    "comfyui": "comfyui.ComfyUI",
}


class _Table(Mapping[str, type[Provider]]):
    """Maps the name of a dialect to its provider without importing the others."""

    def __getitem__(self, name: str) -> type[Provider]:
        module, _, attribute = _CLASSES[name].partition(".")
        found: type[Provider] = getattr(import_module(f"{__name__}.{module}"), attribute)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


PROVIDERS: Mapping[str, type[Provider]] = _Table()
