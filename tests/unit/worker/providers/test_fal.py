from typing import ClassVar

from tests.suites.provider_task import TaskSuite


class TestFal(TaskSuite):
    provider = "fal"
    place = "/fal"
    model = "fal-ai/flux-2-pro"
    n = 3
    hints = True
    polls_at = "/status"
    options: ClassVar = {**TaskSuite.options, "edit_model": "fal-ai/flux-2-pro/edit"}
