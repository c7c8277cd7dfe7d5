"""What the words in double brackets inside a prompt ask the fake to do.

Steering through the prompt needs no side channel: a test that speaks to Darkroom alone can make
the upstream slow, broken or strict. A token is `[[name]]`, `[[name:argument]]`, or
`[[dialect/name]]` when only one of several upstreams shall obey it.

Before anything is drawn:
    [[slow:20]]        wait that many seconds, then go on; paid even when the caller has left
    [[hang]]           draw and bill, but never answer
    [[429:2]]          rate limited; the argument is the hint in seconds (no argument: no hint)
    [[500]] [[502]] [[503]] [[504]]   broken, unavailable, overloaded, timed out
    [[400]] [[402]] [[403]] [[404]]   invalid, out of money, forbidden, no such model
    [[unauthorized]] [[quota]]        the key is bad; the quota is used up
    [[refuse:input]]   moderation refuses the prompt
    [[times:2]]        the faults above hit only the first two calls with this prompt
What is drawn:
    [[refuse:output]]  moderation withholds the picture after it was made
    [[partial:1/3]]    of each three pictures only the first is made
    [[empty]]          an answer without any picture
    [[text-only]]      words instead of a picture, where the dialect has words
    [[bad-b64]]        base64 that is cut in the middle and holds a foreign character; a file, where
                       there is a URL, that is cut in the middle
    [[wrong-mime]]     a picture of another format than the answer says
    [[bytes:190000]]   one picture per answer, made so that the answer has about that many bytes;
                       computed once, so that a benchmark measures the client
    [[signed]]         a small picture with a C2PA manifest
    [[expired-url]] [[expired-url:html]] [[dead-url]] [[private-url]]   results by URL only
    [[file-drop]]      the file behind a URL travels so; `file-` stands before any status or way
How the answer travels:
    [[drop]]           the connection closes in the middle of the body
    [[drip:3]]         the body comes in small pieces over that many seconds
    [[html]]           a page of a proxy, with status 200
    [[bomb]]           a few kilobytes of gzip that unpack to more than a gigabyte
    [[huge]]           1.5 GB of body
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


_TOKEN = re.compile(
    r"\[\[(?:(?P<dialect>[a-z0-9_]+)/)?(?P<name>[a-z0-9-]+)(?::(?P<argument>[^\[\]]{1,200}))?\]\]"
)

_STATUSES = {"400", "401", "402", "403", "404", "429", "500", "502", "503", "504"}
_SPOILERS = {"hang", "empty", "text-only", "bad-b64", "expired-url", "dead-url"}
_DELIVERIES = {"drop", "drip", "html", "bomb", "huge"}
FAULTY = frozenset({"unauthorized", "quota", "refuse"} | _STATUSES | _SPOILERS | _DELIVERIES)
"""What `times` takes away once its calls are over."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one call is asked to do: names with their arguments."""

    arguments: Mapping[str, str | None] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.arguments

    def text(self, name: str) -> str | None:
        """Return the argument of `name`; None without the token or without an argument."""
        return self.arguments.get(name)

    def number(self, name: str, default: float) -> float:
        """Return the argument of `name` as a number; `default` without an argument."""
        argument = self.arguments.get(name)
        return default if argument is None else float(argument)

    def makes(self, index: int) -> bool:
        """Tell whether the picture `index` is made: `partial:1/3` makes the first of each three."""
        share = self.arguments.get("partial")
        if share is None:
            return True
        made, of = (int(part) for part in share.split("/"))
        return index % of < made

    def joined(self, other: "Tokens") -> "Tokens":
        """Return both; `other` wins."""
        return Tokens({**self.arguments, **other.arguments})

    def below(self, prefix: str) -> "Tokens":
        """Return those whose names begin with `prefix`, without it."""
        return Tokens(
            {
                name.removeprefix(prefix): argument
                for name, argument in self.arguments.items()
                if name.startswith(prefix)
            }
        )

    def without(self, names: frozenset[str]) -> "Tokens":
        """Return all but `names`."""
        return Tokens({name: arg for name, arg in self.arguments.items() if name not in names})


def parse(prompt: str, dialect: str) -> Tokens:
    """Return the tokens of `prompt` that `dialect` shall obey."""
    return Tokens(
        {
            match["name"]: match["argument"]
            for match in _TOKEN.finditer(prompt)
            if match["dialect"] in (None, dialect)
        }
    )
