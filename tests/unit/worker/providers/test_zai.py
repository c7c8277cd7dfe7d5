from typing import ClassVar

from tests.suites.provider import ProviderSuite
from tests.suites.provider_task import FAST, TaskSuite


class TestZAI(ProviderSuite):
    provider = "zai"
    place = "/zai/api/paas/v4"
    model = "cogview-4-250304"
    edits = False
    damage = "dead-url"


class TestZAITasks(TaskSuite):
    provider = "zai"
    place = "/zai/api/paas/v4"
    model = "glm-image"
    options: ClassVar = {**FAST, "async": True}
    edits = False
    hints = True
    polls_at = "async-result"
