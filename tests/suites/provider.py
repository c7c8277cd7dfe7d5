"""What each provider must show against the fake of its upstream.

A dialect's test names its provider and its place at the fake, and inherits the claims below; what
the dialect cannot do at all is said in an attribute and skipped.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, ClassVar, cast

import pytest

from storage.address import Allowance
from storage.catalog import Deployment
from storage.container import inspect
from storage.failure import Failure, FailureCode
from tests.upstream import pictures, server
from tests.upstream.calls import fingerprint
from tests.upstream.server import Upstream
from worker.imaging import Imaging
from worker.provider import (
    Order,
    Partial,
    Picture,
    Progress,
    Provider,
    ProviderError,
    Reply,
    Source,
    Tools,
)
from worker.providers import PROVIDERS
from worker.web import Web


KEY = "sk-canary-0123456789abcdef"
PROMPT = "A lighthouse at dawn, painted in oil"


class ProviderSuite:
    """The claims; a subclass says which provider they are about."""

    provider: ClassVar[str]
    place: ClassVar[str]
    """Where the fake speaks the dialect: the path of the base URL."""
    model: ClassVar[str]
    n: ClassVar[int] = 1
    edits: ClassVar[bool] = True
    exact_size: ClassVar[bool] = True
    hints: ClassVar[bool] = True
    """Whether the upstream says how long to wait."""
    moderates: ClassVar[bool] = True
    refuses_output: ClassVar[bool] = True
    damage: ClassVar[str] = "bad-b64"
    """What spoils a picture on its way; for results by URL, a link that leads nowhere."""
    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    async def upstream(self) -> AsyncIterator[Upstream]:
        async with server.running() as upstream:
            yield upstream

    @pytest.fixture
    async def tools(self) -> AsyncIterator[Tools]:
        """The doors; a dialect that touches pixels overrides this with real ones."""
        async with Web(allowance=Allowance.parse("127.0.0.0/8")) as web:
            yield Tools(web=web, imaging=cast("Imaging", None))

    @pytest.fixture
    def subject(self, upstream: Upstream, tools: Tools) -> Provider:
        """The provider at work, with a key."""
        return self.make(upstream, tools)

    def make(
        self, upstream: Upstream, tools: Tools, *, key: str | None = KEY, **changes: Any
    ) -> Provider:
        """Return the provider for a deployment at the fake, with `changes`."""
        return PROVIDERS[self.provider](self.deployment(upstream, **changes), key, tools)

    def deployment(self, upstream: Upstream, **changes: Any) -> Deployment:
        """Return a deployment at the fake."""
        described = {
            "name": f"{self.provider}-test",
            "model": self.model,
            "provider": self.provider,
            "upstream_model": self.model,
            "base_url": upstream.url(self.place),
            "timeout": 10.0,
            "options": self.options,
        }
        return Deployment(**{**described, **changes})

    def order(self, prompt: str = PROMPT, **changes: Any) -> Order:
        """Return an order as the dialect is asked for it."""
        size = {"width": 1024, "height": 1024} if self.exact_size else {"aspect_ratio": "1:1"}
        described = {"job_id": "job_1", "attempt": 1, "edit": False, "model": self.model, **size}
        return Order(**{**described, "prompt": prompt, **changes})

    def edit(self, prompt: str = PROMPT, *, count: int = 1, **changes: Any) -> Order:
        """Return an edit of `count` pictures."""
        images = tuple(source(index) for index in range(count))
        return self.order(prompt, **{"edit": True, "images": images, **changes})

    # -- what comes of it ------------------------------------------------------------------------

    async def test_a_picture_comes_back_as_the_upstream_sent_it(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        reply = await subject.generate(self.order(), progress())
        facts = inspect(picture(reply).data)
        assert (facts.width, facts.height) == (1024, 1024)
        call = upstream.calls()[0]
        assert call.path.startswith(self.place)
        assert (call.model, call.prompt) == (self.model, PROMPT)
        assert fingerprint(call.key) == fingerprint(KEY)

    async def test_nothing_that_was_not_asked_for_is_said(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        order = replace(self.order(), width=None, height=None, aspect_ratio=None)
        await subject.generate(order, progress())
        body = upstream.calls()[0].body
        assert None not in body.values()
        assert not {"size", "seed", "quality", "user", "background"} & body.keys()

    async def test_each_of_n_pictures_is_another_one(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        if self.n == 1:
            pytest.skip("one picture per call")
        reply = await subject.generate(self.order(n=self.n), progress())
        assert len({outcome.data for outcome in made(reply)}) == self.n
        assert len(upstream.calls()) == 1

    async def test_a_picture_that_was_not_made_is_a_failure_in_its_place(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        if self.n == 1:
            pytest.skip("one picture per call")
        order = self.order(f"{PROMPT} [[partial:1/{self.n}]]", n=self.n)
        reply = await subject.generate(order, progress())
        assert len(reply.outcomes) == self.n
        assert len(made(reply)) == 1

    async def test_an_edit_sends_its_pictures_in_order(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        if not self.edits:
            pytest.skip("the upstream cannot edit")
        reply = await subject.generate(self.edit(), progress())
        assert inspect(picture(reply).data).format in pictures.FORMATS
        assert len(upstream.calls()) == 1

    # -- what the upstream refuses ---------------------------------------------------------------

    async def test_a_refused_prompt_is_content_policy_and_final(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        if not self.moderates:
            pytest.skip("the upstream does not moderate")
        error = await failure(subject, self.order("[[refuse:input]]"))
        assert error.code is FailureCode.CONTENT_POLICY
        assert not unknown(error)

    async def test_a_withheld_picture_is_content_policy(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        if not self.refuses_output:
            pytest.skip("the upstream moderates prompts only")
        error = await failure(subject, self.order("[[refuse:output]]"))
        assert error.code is FailureCode.CONTENT_POLICY

    async def test_a_rate_limit_passes_the_hint_on(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[429:2]]"))
        assert error.code is FailureCode.RATE_LIMITED
        assert not unknown(error)
        assert isinstance(error, ProviderError)
        assert error.retry_after == (2.0 if self.hints else None)

    @pytest.mark.parametrize(
        ("token", "code"),
        [
            ("400", FailureCode.INVALID_REQUEST),
            ("403", FailureCode.PERMISSION),
            ("404", FailureCode.MODEL_NOT_FOUND),
            ("500", FailureCode.UPSTREAM_ERROR),
            ("503", FailureCode.OVERLOADED),
            ("quota", FailureCode.BILLING),
        ],
    )
    async def test_an_error_status_means_what_the_upstream_means_by_it(
        self, upstream: Upstream, subject: Provider, token: str, code: FailureCode
    ) -> None:
        error = await failure(subject, self.order(f"[[{token}]]"))
        assert error.code is code
        assert (unknown(error), charged(error)) == (False, False)
        assert len(upstream.calls()) == 1

    async def test_a_bad_key_is_the_deployment_s_fault_and_never_shown(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        key = "bad-key-0123456789abcdef"
        error = await failure(self.make(upstream, tools, key=key), self.order())
        assert error.code is FailureCode.AUTH
        assert key not in error.message

    # -- what goes wrong on the way --------------------------------------------------------------

    async def test_an_answer_that_never_comes_may_have_been_paid_for(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, timeout=0.3)
        error = await failure(subject, self.order("[[hang]]"))
        assert error.code is FailureCode.UPSTREAM_TIMEOUT
        assert (unknown(error), charged(error)) == (True, None)

    async def test_a_body_that_drips_ends_at_the_timeout(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, timeout=0.5)
        started = time.monotonic()
        error = await failure(subject, self.order("[[drip:30]]"))
        assert error.code is FailureCode.UPSTREAM_TIMEOUT
        assert time.monotonic() - started < 2.0

    async def test_a_connection_lost_in_the_body_may_have_been_paid_for(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[drop]]"))
        assert error.code is FailureCode.UPSTREAM_ERROR
        assert (unknown(error), charged(error)) == (True, True)

    async def test_a_connection_never_made_was_not_paid_for(
        self, upstream: Upstream, tools: Tools
    ) -> None:
        subject = self.make(upstream, tools, base_url=f"http://127.0.0.1:1{self.place}")
        error = await failure(subject, self.order())
        assert error.code is FailureCode.UPSTREAM_ERROR
        assert not unknown(error)

    async def test_a_page_instead_of_an_answer_may_have_been_paid_for(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[html]]"))
        assert error.code is FailureCode.UPSTREAM_ERROR
        assert unknown(error)

    async def test_a_damaged_picture_is_no_picture(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order(f"[[{self.damage}]]"))
        assert error.code is FailureCode.UPSTREAM_ERROR

    async def test_an_answer_without_pictures_is_no_image(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[empty]]"))
        assert error.code is FailureCode.NO_IMAGE

    @pytest.mark.parametrize("token", ["bomb", "huge"])
    async def test_an_answer_without_end_is_left_alone(
        self, upstream: Upstream, subject: Provider, token: str
    ) -> None:
        error = await failure(subject, self.order(f"[[{token}]]"))
        assert error.code is FailureCode.UPSTREAM_ERROR
        assert "larger than" in error.message

    async def test_what_fails_once_is_asked_for_once(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        order = self.order(f"{PROMPT} [[500]] [[times:1]]")
        await failure(subject, order)
        assert len(upstream.calls()) == 1
        assert picture(await subject.generate(order, progress()))


def source(index: int = 0, *, format_: str = "png", side: int = 64) -> Source:
    """Return an input picture; each index is another one."""
    sitting = pictures.Sitting(
        model="input", prompt="input", width=side, height=side, index=index, format=format_
    )
    return Source(
        data=pictures.draw(sitting),
        content_type=sitting.content_type,
        filename="../../etc/passwd",
        width=side,
        height=side,
    )


def mask(side: int = 64) -> Source:
    """Return a mask that lets all change."""
    sitting = pictures.Sitting(
        model="mask", prompt="mask", width=side, height=side, transparent=True
    )
    data = pictures.draw(sitting)
    return Source(data=data, content_type="image/png", filename="mask.png", width=side, height=side)


def progress(
    submitted: list[str] | None = None, previewed: list[Partial] | None = None
) -> Progress:
    """Return a progress that notes what it is told."""

    async def note_id(upstream_id: str) -> None:
        if submitted is not None:
            submitted.append(upstream_id)

    async def note_partial(partial: Partial) -> None:
        if previewed is not None:
            previewed.append(partial)

    return Progress(submitted=note_id, previewed=note_partial)


def made(reply: Reply) -> list[Picture]:
    """Return the pictures of a reply."""
    return [outcome for outcome in reply.outcomes if isinstance(outcome, Picture)]


def picture(reply: Reply) -> Picture:
    """Return the only outcome of a reply, which is a picture."""
    (outcome,) = reply.outcomes
    assert isinstance(outcome, Picture)
    return outcome


async def failure(subject: Provider, order: Order) -> ProviderError | Failure:
    """Return why `order` brings no picture, whether the provider raises it or replies it."""
    try:
        reply = await subject.generate(order, progress())
    except ProviderError as error:
        return error
    assert not made(reply)
    first = reply.outcomes[0]
    assert isinstance(first, Failure)
    return first


def unknown(error: ProviderError | Failure) -> bool:
    """Say whether nobody knows if the call was paid for."""
    return isinstance(error, ProviderError) and error.outcome_unknown


def charged(error: ProviderError | Failure) -> bool | None:
    """Return whether the call was charged; None when nobody can tell."""
    return error.charged if isinstance(error, ProviderError) else None
