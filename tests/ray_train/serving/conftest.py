from pathlib import Path

import pytest
from support.published import publish

from ray_train.model.prompt_format import PromptFormat
from ray_train.serving.question import Served


@pytest.fixture(scope="session")
def published(internvl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as `bisieve train` publishes it."""
    folder = tmp_path_factory.mktemp("served") / "model"
    publish(internvl, folder)
    return folder


@pytest.fixture(scope="session")
def served() -> Served:
    """What is known of a model that there is not."""
    several = [{"max_patches": 3}, {"max_patches": 2}]
    format = PromptFormat("<IMG>", {"max_patches": 6}, several_image_options=several, in_place=True)
    return Served("models/mprm", "/models/mprm", "run-1", format, ("<prm>", "<|im_end|>"), 512)
