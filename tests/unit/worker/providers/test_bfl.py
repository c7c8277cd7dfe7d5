from tests.suites.provider_task import TaskSuite


class TestBFL(TaskSuite):
    provider = "bfl"
    place = "/bfl"
    model = "flux-2-pro"
    polls_at = "get_result"
    reported = True
    hints = True
