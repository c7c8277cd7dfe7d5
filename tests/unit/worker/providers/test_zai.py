from typing import Any, ClassVar

import pytest

from storage.failure import FailureCode
from storage.request import Adaptation
from tests.suites.provider import ProviderSuite, failure, picture, progress
from tests.suites.provider_task import FAST, TaskSuite
from tests.upstream.server import Upstream
from worker.complaint import Complaint
from worker.provider import Provider, Tools
from worker.providers.zai import judge


class TestZAI(ProviderSuite):
    provider = "zai"
    place = "/zai/api/paas/v4"
    model = "cogview-4-250304"
    edits = False
    damage = "dead-url"

    async def test_the_watermark_is_off_unless_it_is_asked_for(
        self, upstream: Upstream, subject: Provider, tools: Tools
    ) -> None:
        signed = self.make(upstream, tools, options={"body": {"watermark_enabled": True}})
        await subject.generate(self.order(), progress())
        await subject.generate(self.order(watermark=True), progress())
        await signed.generate(self.order(), progress())
        sent = [call.body["watermark_enabled"] for call in upstream.calls()]
        assert sent == [False, True, True]

    async def test_a_request_names_the_attempt_that_it_is_for(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        await subject.generate(self.order(attempt=2, first_index=3), progress())
        assert upstream.calls()[0].body["request_id"] == "job_1-2-3"

    async def test_a_user_too_short_for_the_upstream_is_dropped_and_said_so(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        reply = await subject.generate(self.order(user="ann"), progress())
        assert reply.adaptations == (Adaptation(param="user", action="dropped", requested="ann"),)
        await subject.generate(self.order(user="ann-1234"), progress())
        assert [call.body.get("user_id") for call in upstream.calls()] == [None, "ann-1234"]

    @pytest.mark.parametrize("token", ["expired-url", "private-url"])
    async def test_a_result_that_cannot_be_fetched_may_have_been_paid_for(
        self, upstream: Upstream, subject: Provider, token: str
    ) -> None:
        error: Any = await failure(subject, self.order(f"[[{token}]]"))
        assert error.code is FailureCode.UPSTREAM_ERROR
        assert error.outcome_unknown

    @pytest.mark.parametrize(
        ("number", "code"),
        [
            ("1002", FailureCode.AUTH),
            ("1112", FailureCode.PERMISSION),
            ("1113", FailureCode.BILLING),
            ("1210", FailureCode.INVALID_REQUEST),
            ("1211", FailureCode.MODEL_NOT_FOUND),
            ("1220", FailureCode.PERMISSION),
            ("1261", FailureCode.INVALID_REQUEST),
            ("1301", FailureCode.CONTENT_POLICY),
            ("1303", FailureCode.RATE_LIMITED),
            ("1304", FailureCode.BILLING),
            ("1305", FailureCode.OVERLOADED),
            ("1308", FailureCode.BILLING),
            ("1312", FailureCode.OVERLOADED),
        ],
    )
    async def test_the_number_says_what_the_status_does_not(
        self, upstream: Upstream, subject: Provider, number: str, code: FailureCode
    ) -> None:
        error = await failure(subject, self.order(f"[[code:{number}]]"))
        assert error.code is code


class TestZAITasks(TaskSuite):
    provider = "zai"
    place = "/zai/api/paas/v4"
    model = "glm-image"
    options: ClassVar = {**FAST, "async": True}
    edits = False
    hints = True
    polls_at = "async-result"

    async def test_a_task_goes_to_the_route_of_tasks(
        self, upstream: Upstream, subject: Provider
    ) -> None:
        assert picture(await subject.generate(self.order(), progress()))
        assert upstream.calls()[0].path.endswith("/async/images/generations")


def test_a_number_that_is_not_known_leaves_it_to_the_status() -> None:
    assert judge(Complaint(status=429, code="1399")) is FailureCode.RATE_LIMITED
    assert judge(Complaint(status=434, code="")) is FailureCode.INVALID_REQUEST
