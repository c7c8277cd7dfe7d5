"""Which dialects the fake speaks: each line mounts one class under `/<name>`."""

from importlib import import_module

from tests.upstream.dialects.dialect import Dialect


DIALECTS = {
    "openai": "openai:OpenAI",
    "azure": "openai:Azure",
}


def load(name: str) -> type[Dialect]:
    """Return the class of the dialect `name`."""
    module, _, attribute = DIALECTS[name].partition(":")
    found: type[Dialect] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return found
