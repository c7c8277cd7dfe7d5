"""Hostile answers: what an upstream can do to whoever asks it, and how each must end.

The same list is run in one process against every way to ask every dialect, and by the benchmark
against a worker of its own process, whose memory is watched.
"""

from dataclasses import dataclass, replace

from storage.catalog import Deployment
from storage.container import inspect
from storage.facts import BadImage
from storage.failure import FailureCode
from storage.request import Request
from tests.ask.asking import calls_of
from tests.ask.deployments import further, shipped
from worker.call import Call, Called
from worker.provider import Picture


PROMPT = "A lighthouse in a storm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What the fake is told to do, and the code of the failure; None if there is a picture.

    `refused` says that the upstream clearly said no, so that nothing can have been paid for.
    """

    name: str
    tokens: str
    code: FailureCode | None
    refused: bool = False
    waits: bool = False
    """Whether only the clock ends it."""

    @property
    def is_large(self) -> bool:
        """Say whether it is a body without end."""
        return "huge" in self.tokens or "bomb" in self.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to ask one deployment."""

    deployment: str
    n: int = 1
    partial_images: int | None = None
    tokens: str = ""
    moderates: bool = True
    by_url: bool = False
    tasks: bool = False
    names_tasks: bool = False
    """Whether the id of a task is ours, so that one with a lost answer is found again."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Return what can go wrong on this way."""
        moderated = ANSWERS if self.moderates else ANSWERS[2:]
        return (*moderated, *(FILES if self.by_url else ()), *(POLLS if self.tasks else ()))

    def prompt(self, fault: Fault) -> str:
        """Return the prompt that makes the fake do it."""
        return " ".join(filter(None, (PROMPT, fault.tokens, self.tokens)))

    def call(self, deployment: Deployment, fault: Fault, *, patience: float) -> Call:
        """Return the call that meets the fault; `patience` is for those that only wait."""
        patient = replace(deployment, timeout=patience if fault.waits else deployment.timeout)
        request = Request(prompt=self.prompt(fault), n=self.n, partial_images=self.partial_images)
        return calls_of(patient, request)[0]


_FAILED = FailureCode.UPSTREAM_ERROR
_LATE = FailureCode.UPSTREAM_TIMEOUT
ANSWERS = (
    Fault(
        name="prompt refused",
        tokens="[[refuse:input]]",
        code=FailureCode.CONTENT_POLICY,
        refused=True,
    ),
    Fault(
        name="image withheld",
        tokens="[[refuse:output]]",
        code=FailureCode.CONTENT_POLICY,
        refused=True,
    ),
    Fault(name="429 with a hint", tokens="[[429:2]]", code=FailureCode.RATE_LIMITED, refused=True),
    Fault(name="500", tokens="[[500]]", code=_FAILED, refused=True),
    Fault(name="hang", tokens="[[hang]]", code=_LATE, waits=True),
    Fault(name="drip", tokens="[[drip:60]]", code=_LATE, waits=True),
    Fault(name="drop in mid-body", tokens="[[drop]]", code=_FAILED),
    Fault(name="HTML with status 200", tokens="[[html]]", code=_FAILED),
    Fault(name="wrong media type", tokens="[[wrong-mime]]", code=None),
    Fault(name="truncated image", tokens="[[bad-b64]]", code=_FAILED),
    Fault(name="1.5 GB body", tokens="[[huge]]", code=_FAILED),
    Fault(name="gzip bomb", tokens="[[bomb]]", code=_FAILED),
)
FILES = (
    Fault(name="file: hang", tokens="[[file-hang]]", code=_LATE, waits=True),
    Fault(name="file: drip", tokens="[[file-drip:60]]", code=_LATE, waits=True),
    Fault(name="file: drop", tokens="[[file-drop]]", code=_FAILED),
    Fault(name="file: HTML", tokens="[[file-html]]", code=_FAILED),
    Fault(name="file: 1.5 GB", tokens="[[file-huge]]", code=_FAILED),
    Fault(name="file: gzip bomb", tokens="[[file-bomb]]", code=_FAILED),
)
POLLS = tuple(
    Fault(
        name=f"poll: {name}", tokens=f"[[poll-{name}]] [[poll-times:9999]]", code=_LATE, waits=True
    )
    for name in ("hang", "drip:60", "drop", "html", "huge", "bomb", "500")
)
WAYS = {
    "openai": Way(deployment="openai-gpt-image-2"),
    "openai, streamed": Way(deployment="openai-gpt-image-2", partial_images=1),
    "azure": Way(deployment="azure"),
    "ark": Way(deployment="ark-seedream-4"),
    "ark, streamed": Way(deployment="ark-stream", n=2),
    "openrouter": Way(deployment="openrouter-stream"),
    "openrouter, streamed": Way(deployment="openrouter-stream", partial_images=1),
    "openrouter chat": Way(deployment="openrouter-chat"),
    "openrouter chat, streamed": Way(deployment="openrouter-chat", partial_images=1),
    "gemini": Way(deployment="google-gemini-3.1-flash-image"),
    "gemini, streamed": Way(deployment="google-gemini-3-pro-image", partial_images=1),
    "zai": Way(deployment="zai-cogview-4", by_url=True),
    "zai, tasks": Way(deployment="zai-tasks", by_url=True, tasks=True),
    "xai": Way(deployment="xai-grok-imagine-image"),
    "chat_relay": Way(deployment="apertis-grok-3-image", by_url=True),
    "chat_relay, whole": Way(deployment="relay-whole"),
    "chat_relay, tasks": Way(
        deployment="apertis-grok-3-image", tokens="[[shape:task]]", by_url=True, tasks=True
    ),
    "bfl": Way(deployment="bfl-flux-2-pro", by_url=True, tasks=True),
    "fal": Way(deployment="fal-flux-2-pro", by_url=True, tasks=True),
    "replicate": Way(deployment="replicate-flux-2-pro", by_url=True, tasks=True),
    "stability": Way(deployment="stability-core"),
    "automatic1111": Way(deployment="automatic1111", moderates=False),
    "comfyui": Way(
        deployment="comfyui", moderates=False, by_url=True, tasks=True, names_tasks=True
    ),
}


def deployments(upstream: str) -> dict[str, Deployment]:
    """Return all deployments at the fake with the address `upstream`, by name."""
    return {one.name: one for one in (*shipped(upstream), *further(upstream))}


def ending(called: Called) -> FailureCode | None:
    """Return how the last image of a call ended: the code of its failure, None for a picture.

    Where some came and another call may bring the rest, it is why they are missing.
    """
    if called.error is not None:
        return called.error.code
    if called.passing is not None:
        return called.passing.code
    _, outcome = called.outcomes[-1]
    if not isinstance(outcome, Picture):
        return outcome.code
    try:
        inspect(outcome.data)
    except BadImage:
        return FailureCode.UPSTREAM_ERROR
    return None
