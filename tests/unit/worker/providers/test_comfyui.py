from typing import ClassVar

from tests.suites.provider_task import FAST, TaskSuite
from tests.unit.worker.providers.graphs import EDIT, GENERATE, MASKED


class TestComfyUI(TaskSuite):
    provider = "comfyui"
    place = "/comfyui"
    model = "sdxl.safetensors"
    n = 3
    moderates = False
    refuses_output = False
    charges = False
    hints = True
    polls_at = "/history/"
    options: ClassVar = {
        **FAST,
        "workflow": GENERATE,
        "edit_workflow": EDIT,
        "mask_workflow": MASKED,
    }
