"""Acts: where they are written down, the last ten thousand of them."""

import re
from typing import Final

from pydantic import TypeAdapter

from storage import redis_keys
from storage.act import Act, Page
from storage.errors import Invalid
from storage.redis_client import Commands


KEPT: Final = 10_000
_ACT: Final[TypeAdapter[Act]] = TypeAdapter(Act)
_ID: Final = re.compile(r"[0-9]{1,15}-[0-9]{1,15}")


class Acts:
    """The audit log. Every method may raise `storage.errors.Unavailable`."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def record(self, act: Act) -> None:
        """Write an act down; whoever acts does so first, so that nothing is done unseen."""
        await self._commands.execute(
            *("XADD", redis_keys.ACTS, "MAXLEN", "~", KEPT, "*", "act", _ACT.dump_json(act))
        )

    async def page(self, *, limit: int, after: str | None = None) -> Page:
        """Return up to `limit` acts, the newest first, from the cursor `after` on.

        Raises `Invalid` for a cursor that no page ever gave.
        """
        if after is not None and _ID.fullmatch(after) is None:
            message = "This cursor was not given by a list of acts."
            raise Invalid(message, param="cursor", code="invalid_cursor")
        top = "+" if after is None else f"({after}"
        rows = await self._commands.execute(
            "XREVRANGE", redis_keys.ACTS, top, "-", "COUNT", limit + 1
        )
        acts = tuple((at.decode(), _ACT.validate_json(row[b"act"])) for at, row in rows[:limit])
        return Page(acts, acts[-1][0] if len(rows) > limit else None)
