"""Where a model comes from and how it is told from others; head and embeddings are those of its files."""

import errno
import json
import shutil
from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.backbones import build_internvl, write_other_weights
from support.hub_checkpoints import save_in_shards, set_flags
from support.hubs import HUB_ID, empty_cache
from transformers import InternVLForConditionalGeneration

from bisieve.errors import DiskError, TrainingError
from bisieve.io import storage
from ray_train.model.backbone import load_backbone
from ray_train.model.files import (
    check_weights,
    contents_of,
    known_as,
    local_copy,
    revision_of,
    stored_tensors,
)
from ray_train.model.save import save_model
from ray_train.model.skeleton import load_skeleton, parameters

FLAGS = list(product((None, True, False), repeat=2))  # at the top of config.json, in its text_config


@pytest.fixture(scope="module", params=["untied", "tied"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An InternVL all of whose rows are taken, so that the marker wants another one."""
    folder = tmp_path_factory.mktemp(request.param)
    build_internvl(folder, tied=request.param == "tied")
    return folder


def rows_in_files(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    weights = load_file(folder / "model.safetensors")
    embeddings = weights["language_model.model.embed_tokens.weight"]
    return embeddings, weights.get("language_model.lm_head.weight", embeddings)


@pytest.mark.parametrize(("top", "text"), FLAGS)
def test_old_rows_stay_and_the_published_config_is_true(
    top: bool | None, text: bool | None, checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    for level, flag in ((config, top), (config["text_config"], text)):
        level.pop("tie_word_embeddings", None)
        if flag is not None:
            level["tie_word_embeddings"] = flag
    (folder / "config.json").write_text(json.dumps(config))
    embeddings, head = rows_in_files(folder)
    tied = head is embeddings

    backbone = load_backbone(str(folder), torch.float32)
    assert torch.equal(backbone.model.get_input_embeddings().weight[: len(embeddings)], embeddings)
    assert torch.equal(backbone.model.get_output_embeddings().weight[: len(head)], head)
    counted = sum(parameters(load_skeleton(str(folder), [])).values())
    assert counted == sum(weight.numel() for weight in backbone.model.parameters())

    save_model(backbone, dict(backbone.model.state_dict()), {}, tmp_path / "published")
    said = json.loads((tmp_path / "published" / "config.json").read_text())
    assert said["tie_word_embeddings"] is said["text_config"]["tie_word_embeddings"] is tied
    saved = load_backbone(str(tmp_path / "published"), torch.float32).model
    assert torch.equal(saved.get_output_embeddings().weight[: len(head)], head)


def test_so_they_do_in_every_family_whatever_its_config_says(hub_checkpoint: Path, tmp_path: Path) -> None:
    weights: dict[str, torch.Tensor] = {}
    for file in hub_checkpoint.glob("*.safetensors"):
        weights |= load_file(file)
    embeddings = ending(weights, "embed_tokens.weight")
    head = ending(weights, "lm_head.weight")
    wrong = head is not None
    for name, flags in {"as built": None, "silent": (None, None), "wrong": (wrong, wrong)}.items():
        folder = tmp_path / name
        shutil.copytree(hub_checkpoint, folder, ignore=shutil.ignore_patterns("model-*"))
        for file in hub_checkpoint.glob("model-*"):
            (folder / file.name).hardlink_to(file)
        if flags:
            set_flags(folder, *flags)
        backbone = load_backbone(str(folder), torch.float32)
        counted = sum(parameters(load_skeleton(str(folder), [])).values())
        assert counted == sum(weight.numel() for weight in backbone.model.parameters()), name
        save_model(backbone, {}, {}, tmp_path / f"{name}, published")  # its config alone
        said = json.loads((tmp_path / f"{name}, published" / "config.json").read_text())
        levels = [said["tie_word_embeddings"], said["text_config"]["tie_word_embeddings"]]
        assert levels == [head is None, head is None], name
        marker = backbone.token_id("<prm>")
        rows, heads = (
            layer.weight for layer in (backbone.model.get_input_embeddings(), backbone.model.lm_head)
        )
        assert (rows is heads) == (head is None), name
        for found, expected in ((rows, embeddings), (heads, embeddings if head is None else head)):
            assert expected is not None
            old = torch.arange(len(expected)) != marker  # of padded rows one is the marker's
            assert torch.equal(found[: len(expected)][old], expected[old]), name


def ending(weights: dict[str, torch.Tensor], name: str) -> torch.Tensor | None:
    """Return the weight whose name ends so; None where there is none."""
    return next((weight for key, weight in weights.items() if key.endswith(name)), None)


def test_weights_of_another_type_than_asked_for_are_named(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # transformers' own way to keep some weights of a family in fp32, whatever is asked for
    monkeypatch.setattr(InternVLForConditionalGeneration, "_keep_in_fp32_modules_strict", {"norm"})
    with pytest.raises(
        TrainingError, match=r"all weights loaded as torch.bfloat16; found .*norm.* in torch.float32"
    ):
        load_backbone(str(checkpoint), torch.bfloat16)


@pytest.mark.parametrize("number", [1, 2], ids=["of the embeddings", "of the head"])
def test_a_shard_that_the_index_names_and_that_is_missing_is_named(
    number: int, checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    save_in_shards(load_file(folder / "model.safetensors"), folder)
    (folder / "model.safetensors").unlink()
    missing = f"model-{number:05d}-of-00002.safetensors"
    (folder / missing).unlink()
    for load in (lambda: load_skeleton(str(folder), []), lambda: load_backbone(str(folder), torch.float32)):
        with pytest.raises(TrainingError, match=f"names, all of them, at .*; found no {missing}; copy"):
            load()


@pytest.mark.parametrize("problem", ["missing", "does not have", "whose shape differs", "quantized"])
def test_weights_that_do_not_fit_are_named(problem: str, checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    name = "language_model.model.norm.weight"
    if problem == "missing":
        del weights[name]
    elif problem == "does not have":
        weights["language_model.model.other.weight"] = torch.ones(2)
    elif problem == "whose shape differs":
        weights[name] = torch.ones(7)
    else:
        weights[name] = weights[name].to(torch.int8)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(TrainingError, match=problem) as caught:
        load_backbone(str(folder), torch.float32)
    assert "\n" not in str(caught.value)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a hub id that was fetched before, in a cache with no hub behind it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return empty_cache(tmp_path / "hub", monkeypatch)


def test_a_hub_id_a_folder_and_a_url_give_the_same_backbone(
    qwen: Path, hub: Path, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(qwen, hub)
    for file in qwen.iterdir():
        storage.write_bytes(f"{s3}/backbones/qwen/{file.name}", file.read_bytes())
    sources = (str(qwen), f"file://{qwen}", f"{s3}/backbones/qwen", HUB_ID)
    folder, *others = (load_backbone(source, torch.float32) for source in sources)
    assert {contents_of(each.folder) for each in (folder, *others)} == {contents_of(sources[2])}
    expected = folder.model.state_dict()
    for backbone in others:
        assert backbone.token_id("<prm>") == folder.token_id("<prm>")
        found = backbone.model.state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_hub_that_does_not_answer_is_told_in_one_line(hub: Path) -> None:
    with pytest.raises(TrainingError, match=r"looked up as a hub id: .*; check --backbone") as caught:
        load_backbone("another-lab/Another-VL", torch.float32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Data processing error: No space left on device (os error 28)"),
    ],
    ids=["Python", "Rust"],
)
def test_a_disk_without_room_for_a_models_files_is_not_called_a_hub_without_the_model(
    error: Exception, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*args: object, **options: object) -> str:  # stands for the hub, which tests cannot reach
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    cache = hub.parents[2]
    words = f"room for {cache}; found No space left on device: .*; free space there, or set HF_HUB_CACHE"
    with pytest.raises(DiskError, match=words):
        load_backbone(HUB_ID, torch.float32)


def test_a_hub_id_that_has_moved_on_is_told_from_what_it_was(qwen: Path, hub: Path) -> None:
    shutil.copytree(qwen, hub)
    before = local_copy(HUB_ID)
    assert revision_of(before) == "0" * 40
    later = hub.with_name("1" * 40)
    write_other_weights(shutil.copytree(qwen, later))
    (hub.parents[1] / "refs" / "main").write_text(later.name)
    after = local_copy(HUB_ID)
    assert revision_of(after) == "1" * 40
    assert contents_of(after) != contents_of(before)
    assert known_as(HUB_ID) == HUB_ID, "only the workers fetch its weights"
    assert revision_of(str(qwen)) is None


def test_contents_are_those_of_what_is_loaded_and_of_nothing_else(qwen: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(qwen, tmp_path / "moved")
    expected = contents_of(str(qwen))
    (folder / "README.md").write_text("read me")
    (folder / "runs").mkdir()
    (folder / "runs" / "config.json").write_text("{}")
    assert contents_of(str(folder)) == contents_of(f"file://{folder}") == expected
    (folder / "tokenizer_config.json").write_text((qwen / "tokenizer_config.json").read_text() + " ")
    changed = contents_of(str(folder))
    assert changed != expected
    write_other_weights(folder)
    assert contents_of(str(folder)) not in (changed, expected)


def test_of_a_large_file_the_size_and_a_piece_in_every_16_mib_are_looked_at(tmp_path: Path) -> None:
    file, size = tmp_path / "model.safetensors", 80 * 2**20
    with file.open("wb") as handle:
        handle.truncate(size)
    seen = {contents_of(str(tmp_path))}
    for place in (0, 32 * 2**20 + 100, 64 * 2**20 + 4095):
        with file.open("r+b") as handle:
            handle.seek(place)
            handle.write(b"x")
        seen.add(contents_of(str(tmp_path)))
    with file.open("r+b") as handle:
        handle.truncate(size + 1)
    seen.add(contents_of(str(tmp_path)))
    assert len(seen) == 5


def test_weights_of_a_subfolder_do_not_hide_those_of_the_model(internvl: Path, tmp_path: Path) -> None:
    """A training keeps its checkpoints there, with the same file names."""
    folder = shutil.copytree(internvl, tmp_path / "model")
    expected = stored_tensors(str(folder))
    assert expected
    (folder / "runs").mkdir()
    (folder / "runs" / "model.safetensors").write_bytes(b"a checkpoint")
    assert stored_tensors(str(folder)).keys() == expected.keys()
    check_weights(folder.as_uri(), "--model")
