import pytest

from storage.failure import FailureCode
from tests.suites.provider import ProviderSuite, failure, picture, progress, unknown
from tests.upstream.server import Upstream
from worker.provider import Provider


class TestXAI(ProviderSuite):
    provider = "xai"
    place = "/xai/v1"
    model = "grok-imagine-image-2.0"
    exact_size = False
    n = 3

    async def test_the_cost_is_what_the_upstream_charged(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        reply = await subject.generate(self.edit(n=2, resolution="2K", quality="low"), progress())
        (call,) = upstream.calls()
        assert reply.cost == pytest.approx(call.cost)
        assert call.cost == pytest.approx(2 * (0.06 + 0.01))

    async def test_words_of_ours_become_words_of_theirs(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        order = self.order(aspect_ratio="9:16", resolution="1.5K", quality="low", user="ann")
        await subject.generate(order, progress())
        body = upstream.calls()[0].body
        assert {name: body[name] for name in ("aspect_ratio", "resolution", "quality", "user")} == {
            "aspect_ratio": "9:16",
            "resolution": "1.5k",
            "quality": "low",
            "user": "ann",
        }

    async def test_one_source_is_an_image_and_more_are_images(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        await subject.generate(self.edit(), progress())
        await subject.generate(self.edit(count=3), progress())
        one, three = (call.body for call in upstream.calls())
        assert one["image"]["url"].startswith("data:image/png;base64,")
        assert "images" not in one
        assert len(three["images"]) == 3
        assert "image" not in three
        assert {call.path for call in upstream.calls()} == {"/xai/v1/images/edits"}

    @pytest.mark.parametrize("envelope", ["", "[[error:string]]", "[[error:object]]"])
    @pytest.mark.parametrize(
        ("token", "code"),
        [
            ("refuse:input", FailureCode.CONTENT_POLICY),
            ("quota", FailureCode.BILLING),
            ("403", FailureCode.PERMISSION),
            ("429:2", FailureCode.RATE_LIMITED),
        ],
    )
    async def test_each_envelope_is_read(
        self, upstream: Upstream, subject: Provider, envelope: str, token: str, code: FailureCode
    ) -> None:
        error = await failure(subject, self.order(f"[[{token}]] {envelope}"))
        assert error.code is code

    async def test_a_prompt_blocked_with_status_200_is_content_policy(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[quiet]]"))
        assert error.code is FailureCode.CONTENT_POLICY
        assert error.message == "The prompt was blocked."

    async def test_an_empty_picture_that_moderation_left_is_content_policy(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        error = await failure(subject, self.order("[[refuse:output]]", n=2))
        assert error.code is FailureCode.CONTENT_POLICY
        assert not unknown(error)

    async def test_further_fields_do_not_replace_what_the_order_says(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        options = {"prompt": "other", "n": 9, "response_format": "url", "resolution": "2k"}
        reply = await subject.generate(self.order(options=options), progress())
        assert picture(reply)
        body = upstream.calls()[0].body
        assert (body["response_format"], body["resolution"]) == ("b64_json", "2k")
        assert "n" not in body
