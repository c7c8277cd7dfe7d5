"""Refusals: why a request cannot go on, in words that know nothing of HTTP.

A refusal is raised by a noun or a collection and read by whoever asked. How loud it is and which
status it becomes is decided once, at the edge. A job that ended badly is not a refusal: that is a
`Failure`, a value inside the job.
"""


class Error(Exception):
    """A request that cannot go on; `message` is what the caller will read."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class Invalid(Error):
    """The request says something that cannot be done; `param` names the field."""


class Missing(Error):
    """There is no such thing, or it belongs to another tenant: the two are not told apart."""


class Conflict(Error):
    """The thing is there, but in a state that does not allow this."""


class Forbidden(Error):
    """The key is good but may not do this."""


class TooLarge(Error):
    """Something is over its limit of bytes."""


class TooMany(Error):
    """A limit of rate, concurrency or queue is reached; `retry_after` is in seconds."""

    def __init__(
        self, message: str, *, retry_after: float, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, param=param, code=code)
        self.retry_after = retry_after


class Unavailable(Error):
    """Something we stand on does not answer; try again in `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float = 1.0, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after
