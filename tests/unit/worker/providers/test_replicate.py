from tests.suites.provider_task import TaskSuite


class TestReplicate(TaskSuite):
    provider = "replicate"
    place = "/replicate/v1"
    model = "black-forest-labs/flux-2-pro"
    exact_size = False
    hints = True
    polls_at = "/v1/predictions/"


class TestReplicateMany(TaskSuite):
    provider = "replicate"
    place = "/replicate/v1"
    model = "black-forest-labs/flux-schnell"
    edits = False
    n = 3
    exact_size = False
    hints = True
    polls_at = "/v1/predictions/"
