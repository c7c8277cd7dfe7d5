"""The Lua scripts: each is one step that happens wholly or not at all."""

from pathlib import Path
from typing import Final


def _read(name: str) -> str:
    return (Path(__file__).parent / f"{name}.lua").read_text(encoding="utf-8")


ADD: Final = _read("add")
SWAP: Final = _read("swap")
CLAIM: Final = _read("claim")
RENEW: Final = _read("renew")
RELEASE: Final = _read("release")
WRITE: Final = _read("write")
