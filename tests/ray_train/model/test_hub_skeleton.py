"""A hub id has the parameters that the same folder has, whatever its config says of the head."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
from safetensors.torch import load_file
from support.backbones import build_internvl
from support.hub_checkpoints import save_in_shards, set_flags
from support.hubs import HUB_ID, empty_cache, serving

from bisieve.errors import TrainingError
from ray_train.config import TrainConfig
from ray_train.estimates.dry_run import _model
from ray_train.estimates.memory import resolve_zero_stage
from ray_train.model.skeleton import load_skeleton, parameters

HEADS = ("untied", "tied", "stored twice")
FLAGS = ((None, None), (None, False), (True, True), (False, False))
HEAD, EMBEDDINGS = "language_model.lm_head.weight", "language_model.model.embed_tokens.weight"


@pytest.fixture(scope="module", params=HEADS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An InternVL in two shards, all of whose rows are taken."""
    folder = tmp_path_factory.mktemp("hub") / request.param
    build_internvl(folder, tied=request.param == "tied")
    weights = load_file(folder / "model.safetensors")
    if request.param == "stored twice":
        weights[HEAD] = weights[EMBEDDINGS].clone()
    (folder / "model.safetensors").unlink()
    save_in_shards(weights, folder)
    return folder


def expected_numbers(folder: Path, separate: bool) -> int:
    """How many numbers a model has: of the files without the head, and of that; the marker has a row each."""
    weights: dict[str, int] = {}
    for file in folder.glob("*.safetensors"):
        weights |= {name: tensor.numel() for name, tensor in load_file(file).items()}
    weights.pop(HEAD, None)
    rows = weights[EMBEDDINGS] + 48
    return sum(weights.values()) + 48 + separate * rows


@pytest.mark.parametrize("place", ["hub", "cache"])
@pytest.mark.parametrize(("top", "text"), FLAGS)
def test_its_head_is_what_the_files_hold(
    top: bool | None, text: bool | None, place: str, checkpoint: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    set_flags(folder, top, text)
    snapshot = empty_cache(tmp_path / "cache", monkeypatch)
    if place == "cache":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        shutil.copytree(folder, snapshot)
    with serving(folder, monkeypatch) if place == "hub" else nullcontext() as hub:
        skeleton = load_skeleton(HUB_ID, [])
    said_untied = top is False  # what InternVL's config has for a file that is silent is "tied"
    separate = checkpoint.name == "untied" or (checkpoint.name == "stored twice" and said_untied)
    assert sum(parameters(skeleton).values()) == expected_numbers(folder, separate)
    assert parameters(skeleton) == parameters(load_skeleton(str(folder), []))
    assert skeleton.note == ""
    if hub is not None:
        sent = sum(number for name, number in hub.sent.items() if name.endswith("safetensors"))
        stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        assert 0 < sent < stored / 4


@pytest.mark.parametrize("fetched", ["all but weights", "one shard of two"])
def test_where_its_weights_cannot_be_seen_one_line_says_what_is_believed(
    fetched: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    snapshot = empty_cache(tmp_path / "cache", monkeypatch)
    left_out = "model*" if fetched == "all but weights" else "model-00002*"
    shutil.copytree(checkpoint, snapshot, ignore=shutil.ignore_patterns(left_out))
    for flag, counted in ((True, "is tied to the embeddings"), (False, "has weights of its own")):
        set_flags(snapshot, flag, flag)
        skeleton = load_skeleton(HUB_ID, [])
        line = f"weights not read: by config.json the head {counted}"
        assert skeleton.note == line
        assert sum(parameters(skeleton).values()) == expected_numbers(checkpoint, not flag)
        assert _model(skeleton)[1:] == [f"  {line}"], "the dry run's"
    config = TrainConfig(index="", image_root="", backbone=HUB_ID, output="", device_memory=80.0)
    assert resolve_zero_stage(config)[1][1:] == [line], "a run's, behind the choice of a stage"


def test_a_shard_that_is_missing_on_the_hub_is_named(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "model", ignore=shutil.ignore_patterns("model-00002*"))
    empty_cache(tmp_path / "cache", monkeypatch)
    named = f"at hf://{HUB_ID}; found no model-00002-of-00002.safetensors; "
    with serving(folder, monkeypatch), pytest.raises(TrainingError, match=named):
        load_skeleton(HUB_ID, [])
