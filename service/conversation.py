"""What a conversation asks for: the prompt, and the images that it starts from.

The last user message says what to draw. An image in it makes an edit; without one, the latest
images that the assistant made are edited further ("make it blue"). What else was said is left
out, and said to be: an image model has no memory to put it in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.wire.fields import written
from service.wire.pictures import Picture
from storage.errors import Invalid
from storage.request import Adaptation


class Said(Protocol):
    """One message, whichever door it came through."""

    @property
    def role(self) -> str: ...

    @property
    def text(self) -> str: ...

    @property
    def pictures(self) -> tuple[Picture, ...]: ...


@dataclass(frozen=True, slots=True)
class Topic:
    """The prompt and the images of a request, and what of the conversation was left out."""

    prompt: str
    pictures: tuple[Picture, ...] = ()
    adapted: tuple[Adaptation, ...] = ()


def topic_of(messages: Sequence[Said], param: str) -> Topic:
    """Return what the messages ask for; raises `Invalid` when nobody asks for anything."""
    last = next((at for at in reversed(range(len(messages))) if messages[at].role == "user"), -1)
    try:
        prompt = written("" if last < 0 else messages[last].text)
    except ValueError as error:
        raise Invalid(
            f"The last user message must say what to draw: it {error}.",
            param=param,
            code="missing_prompt",
        ) from None
    asked = messages[last]
    pictures = asked.pictures or _latest(messages[:last])
    others = any(message.text.strip() for message in messages[:last])
    left_out = Adaptation(param=param, action="adapted", used="the last user message")
    return Topic(prompt, pictures, (left_out,) if others else ())


def _latest(messages: Sequence[Said]) -> tuple[Picture, ...]:
    made = (m.pictures for m in reversed(messages) if m.role == "assistant" and m.pictures)
    return next(made, ())
