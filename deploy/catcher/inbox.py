"""The inbox: the last messages that arrived, as the page shows them. Nothing is kept on disk."""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from deploy.catcher.verdict import Verdict


KEPT: Final = 100
_SHOWN: Final = (
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "content-type",
    "user-agent",
)
_LONGEST: Final = 2_048


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message: when it came, what it was answered, and what its signatures say.

    `verdict` is None where the keys could not be read; `reason` then says why.
    """

    number: int
    at: float
    answered: int
    headers: Mapping[str, str]
    body: bytes
    verdict: Verdict | None
    reason: str

    def document(self, attempt: int) -> dict[str, Any]:
        """Return what the page shows of it; `attempt` counts the same message."""
        told = _json(self.body) if self.verdict is not None and self.verdict.is_verified else None
        data = told.get("data") if isinstance(told, dict) else None
        return {
            "number": self.number,
            "at": self.at,
            "answered": self.answered,
            "status": self.status,
            "reason": self.reason,
            "signatures": None if self.verdict is None else asdict(self.verdict),
            "type": told.get("type") if isinstance(told, dict) else None,
            "about": data.get("id") if isinstance(data, dict) else None,
            "try": attempt,
            "headers": {
                name: self.headers[name][:_LONGEST] for name in _SHOWN if name in self.headers
            },
            # Only what is verified is laid out: layers of brackets would grow a hundredfold.
            "body": self.body.decode(errors="replace")
            if told is None
            else json.dumps(told, indent=2, ensure_ascii=False),
        }

    @property
    def status(self) -> str:
        """Say in a word what the signatures say."""
        if self.verdict is None:
            return "unchecked"
        return "verified" if self.verdict.is_verified else "refused"


class Inbox:
    """The last `KEPT` messages; `arrived` counts all of them."""

    def __init__(self) -> None:
        self.arrived = 0
        self._messages: deque[Message] = deque(maxlen=KEPT)

    def add(
        self,
        headers: Mapping[str, str],
        body: bytes,
        verdict: Verdict | None,
        reason: str,
        *,
        answered: int,
        now: float,
    ) -> None:
        """Keep a message, and let go of the oldest."""
        self.arrived += 1
        self._messages.append(
            Message(
                number=self.arrived,
                at=now,
                answered=answered,
                headers={name: headers[name] for name in _SHOWN if name in headers},
                body=body,
                verdict=verdict,
                reason=reason,
            )
        )

    def after(self, number: int) -> list[dict[str, Any]]:
        """Return what is kept of the messages that came after message `number`, oldest first."""
        tries: dict[str, int] = {}
        documents = []
        for message in self._messages:
            message_id = message.headers.get("webhook-id", "")
            tries[message_id] = tries.get(message_id, 0) + 1
            if message.number > number:
                documents.append(message.document(tries[message_id]))
        return documents


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
