"""What a relay says in chat, and where in it the pictures are.

No relay documents it, and each upstream behind one puts them elsewhere: into a list of images, into
parts of the content, into markdown, or as a bare URL or bare base64; in a stream all of this comes
in pieces. So everything that may be a picture is gathered, the surest places first, and it is left
to the fetched bytes to prove that they are one.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from storage.container import sniff
from worker import wire


MAX_REFERENCES: Final = 64
_MAX_DEPTH: Final = 8
_SHORTEST_BASE64: Final = 64
_HEAD: Final = 256
# Members that hold a picture, or lead to one, in some relay's answer.
_PLACES: Final = (
    *("images", "image", "image_url", "image_urls", "url", "urls", "b64_json", "image_b64_json"),
    *("source", "data", "inline_data", "inlineData", "output", "outputs", "result", "results"),
)
_OF_MESSAGE: Final = ("images", "image", "image_url", "image_b64_json", "b64_json")
_FENCE: Final = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_SHOWN: Final = re.compile(r"!\[[^\]\n]{0,300}\]\(\s*<?")
_LINKED: Final = re.compile(r"(?<!!)\[[^\]\n]{0,300}\]\(\s*<?(?=https?://)")
_URL: Final = re.compile(r"https?://[^\s<>\"'`\]\\]{4,4000}")
_IMAGE_SUFFIX: Final = re.compile(r"\.(?:png|jpe?g|webp)(?:[?#]|$)", re.IGNORECASE)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/\s]{64,}={0,2}\s*")


@dataclass(slots=True)
class ChatReply:
    """One answer, whole or put together from the pieces of a stream."""

    texts: list[str] = field(default_factory=list, repr=False)
    found: list[str] = field(default_factory=list, repr=False)
    finish: str = ""
    id: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What was said in words."""
        return "".join(self.texts)

    def add(self, body: Mapping[str, Any]) -> None:
        """Take in an answer, or one event of a stream."""
        self.id = self.id or wire.at(body, "id", kind=str)
        self.usage = wire.at(body, "usage", kind=dict) or self.usage
        self.found += references(body.get("data"))
        for choice in wire.items_at(body, "choices"):
            self.finish = wire.at(choice, "finish_reason", kind=str) or self.finish
            for name in ("message", "delta"):
                if (message := wire.at(choice, name, kind=dict)) is not None:
                    self._hear(message)

    def candidates(self) -> Iterator[list[str]]:
        """Yield what may be pictures: data URLs, URLs or base64, group by group, the surest first.

        A group holds what belongs together, so that its best picture can be told from previews.
        """
        text = self.text
        yield list(dict.fromkeys(self.found))
        shown = list(_targets(_SHOWN, text))
        yield [target for target in shown if wire.is_data_url(target)]
        yield [target for target in shown if target.startswith(("http://", "https://"))]
        yield [text.strip()] if _is_reference(text.strip()) else []
        plain = _FENCE.sub(" ", text) if len(text) < 1_000_000 else ""
        urls = [_trimmed(match[0]) for match in _URL.finditer(plain)]
        yield [url for url in urls if _IMAGE_SUFFIX.search(url)]
        yield list(_targets(_LINKED, plain)) or urls

    def _hear(self, message: Mapping[str, Any]) -> None:
        content = message.get("content")
        if isinstance(content, str):
            self.texts.append(content)
        elif isinstance(content, list):
            parts = [part for part in content if isinstance(part, dict)]
            self.texts += [t for part in parts if (t := wire.at(part, "text", kind=str))]
            self.found += references([{k: v for k, v in p.items() if k != "text"} for p in parts])
        for name in _OF_MESSAGE:
            self.found += references(message.get(name))


def references(value: object) -> list[str]:
    """Return all that may be pictures below a value, by the members that relays use for them."""
    found: list[str] = []
    for reference in _walk(value, 0):
        found.append(reference)
        if len(found) >= MAX_REFERENCES:
            break
    return found


def _walk(value: object, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        return
    match value:
        case str():
            if _is_reference(value):
                yield value
        case list():
            for item in value:
                yield from _walk(item, depth + 1)
        case dict():
            for name in _PLACES:
                if name in value:
                    yield from _walk(value[name], depth + 1)


def _is_reference(text: str) -> bool:
    """Say whether a text is nothing but a URL, a data URL, or a picture in base64."""
    if text.startswith(("http://", "https://")):
        return _URL.fullmatch(text) is not None
    if wire.is_data_url(text):
        return True
    if len(text) < _SHORTEST_BASE64 or _BASE64.fullmatch(text[:_HEAD]) is None:
        return False
    try:
        return sniff(wire.decode(text[:_HEAD])) is not None
    except wire.Unreadable:
        return False


def _targets(opening: re.Pattern[str], text: str) -> Iterable[str]:
    """Yield the targets of markdown links; brackets inside of a URL belong to it."""
    for match in opening.finditer(text):
        target = _until_closed(text, match.end())
        if target:
            yield target


def _until_closed(text: str, start: int) -> str:
    if text.startswith("data:", start):
        end = text.find(")", start)
        return text[start : end if end >= 0 else len(text)].rstrip("> \n")
    match = _URL.match(text, start)
    return _trimmed(match[0]) if match else ""


def _trimmed(url: str) -> str:
    """Return the URL without what closes the text around it."""
    depth = 0
    for at, letter in enumerate(url):
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return url[:at]
    return url.rstrip(".,;:!*")
