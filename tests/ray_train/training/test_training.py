"""Whole training runs on a real Ray with gloo workers: what is learned, kept, refused and resumed."""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support.backbones import write_other_weights
from support.piped_lines import joined
from support.runs import last_checkpoint, learned_weights
from support.sample_logs import read_sample_logs
from support.small_corpus import ROLLOUTS, Corpus, write_index

from bisieve.errors import ImageError, IndexUnusableError, TrainingError
from bisieve.io import storage, urls
from bisieve.shards.fetch import fetch_rollouts
from ray_train.checkpoints.run_dir import check_identity, claim_output
from ray_train.checkpoints.state import read_cursor
from ray_train.config import TrainConfig
from ray_train.data.sampler import BatchPlan, prompts_of, validation_split
from ray_train.model.files import contents_of
from ray_train.model.metadata import read_card
from ray_train.registry.files import LEASE
from ray_train.training.driver import train
from ray_train.training.plan import chosen_selection
from ray_train.training.worker import expected_backbone

Settings = Callable[..., TrainConfig]

TOTAL = sum(ROLLOUTS.values())
STEPS = -(-TOTAL // 6)


def test_every_rollout_of_the_selection_is_trained_on_once(trained: TrainConfig) -> None:
    lines = read_sample_logs(last_checkpoint(trained.output))
    assert Counter(row for line in lines for row in line["rows"]) == Counter(range(TOTAL))
    assert len({rollout for line in lines for rollout in line["rollout_ids"]}) == TOTAL
    assert {line["step"] for line in lines} == set(range(STEPS))


def test_what_is_published_has_a_page_and_serves_elsewhere(trained: TrainConfig) -> None:
    names = {file.name for file in Path(trained.output).iterdir()}
    assert {
        "README.md",
        "chat_template.jinja",
        "processor_config.json",
        "preprocessor_config.json",
        "vllm.yaml",
    } <= names
    card, page = read_card(trained.output), Path(trained.output, "README.md").read_text("utf-8")
    assert card is not None
    assert f"| rollouts | {TOTAL}, 100.00% of the index |" in page
    assert "| sources | 2 |\n| strategy | bis |\n| alpha | 0.05 |" in page
    assert f"at its last step {card['metrics']['loss']:.4f}" in page
    template = Path(trained.output, "chat_template.jinja").read_text("utf-8")
    assert json.dumps(card["prompt_format"]["head"]) in template


def test_the_model_is_a_hugging_face_folder_with_its_lineage(trained: TrainConfig) -> None:
    from transformers import AutoTokenizer, InternVLForConditionalGeneration

    model, report = InternVLForConditionalGeneration.from_pretrained(trained.output, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert AutoTokenizer.from_pretrained(trained.output).encode("<prm>") == [
        len(model.get_input_embeddings().weight) - 1
    ]
    card = read_card(trained.output)
    assert card is not None
    assert card["fraction_asked"] == card["fraction_delivered"] == 1.0
    assert card["metrics"]["rollouts"] == TOTAL
    assert card["prompt_format"]["marker"] == "<prm>"
    assert card["config"]["learning_rate"] == 1e-3
    assert list((Path(trained.output) / "tensorboard").iterdir())


def test_the_vision_encoder_keeps_its_weights_and_the_rest_learns(trained: TrainConfig) -> None:
    before, after = load_file(Path(trained.backbone) / "model.safetensors"), learned_weights(trained.output)
    for name, tensor in before.items():
        if "vision_tower" in name:
            torch.testing.assert_close(after[name], tensor, rtol=0, atol=0)
        elif "mlp" in name or "projector.linear" in name:
            assert not torch.equal(after[name], tensor), name


def test_the_same_command_again_has_nothing_to_do(
    trained: TrainConfig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not (Path(trained.output) / LEASE).exists(), "it was given back"
    before = (Path(trained.output) / "model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr("ray_train.training.driver.leased", None)  # nobody asks for it
    train(trained)
    assert "nothing to do" in capsys.readouterr().out
    assert (Path(trained.output) / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("options", [{"seed": 1}, {"fraction": 0.5}], ids=lambda options: next(iter(options)))
def test_another_run_does_not_touch_the_output(
    options: dict[str, Any], trained: TrainConfig, settings: Settings
) -> None:
    config = settings(output=trained.output, **options)
    with pytest.raises(TrainingError, match=rf"{next(iter(options))}.*--restart"):
        train(config)


def test_a_backbone_that_moved_is_the_same_run_and_other_weights_at_its_place_are_another(
    trained: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = shutil.copytree(trained.backbone, tmp_path / "moved")
    train(replace(trained, backbone=str(moved)))
    assert "nothing to do" in capsys.readouterr().out
    write_other_weights(moved)
    with pytest.raises(TrainingError, match=r"\(backbone '.*another --output, or --restart"):
        train(replace(trained, backbone=str(moved)))


def test_a_worker_that_sees_another_backbone_than_the_command_says_so(settings: Settings) -> None:
    job: Any = SimpleNamespace(config=settings(), identity={"backbone": "seen-by-the-command"})
    with pytest.raises(TrainingError, match=r"\(contents seen-by-the-command\); found contents \w{16} on"):
        expected_backbone(job)
    job.identity["backbone"] = job.config.backbone  # a hub id: the command has not looked
    assert expected_backbone(job)[1] == contents_of(job.config.backbone)


def test_another_prompt_format_is_another_run(
    trained: TrainConfig, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_train.model.prompt_format.process_text", lambda *text: "otherwise")
    with pytest.raises(TrainingError, match=r"prompt_format.*--restart"):
        train(settings(output=trained.output))


def test_a_run_without_a_checkpoint_gives_way(settings: Settings) -> None:
    config = settings()
    first, finished = claim_output(config, {"seed": 0})
    assert not finished
    assert claim_output(config, {"seed": 0}) == (first, False)
    second, _ = claim_output(config, {"seed": 1})
    assert second != first
    storage.write_bytes(f"{config.output}/runs/{second}/checkpoint_manager_snapshot.json", b"{}")
    with pytest.raises(TrainingError, match="--restart"):
        claim_output(config, {"seed": 2})
    third, _ = claim_output(settings(restart=True), {"seed": 1})
    assert third != second, "a restarted run must not find the checkpoints of the old one"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b'{"run": "a', "a file that is truncated or not JSON"),
        (b"[]", "something else: Expected `object`"),
        (b'{"run": "a"}', "something else: Object missing required field `attempt`"),
    ],
)
def test_a_half_written_name_of_a_run_is_named(content: bytes, found: str, settings: Settings) -> None:
    config = settings()
    storage.write_bytes(f"{config.output}/run.json", content)
    with pytest.raises(TrainingError, match=rf"run\.json; found {found}"):
        claim_output(config, {"seed": 0})


def test_a_folder_with_a_foreign_model_is_not_overwritten(settings: Settings, internvl: Path) -> None:
    with pytest.raises(TrainingError, match="found a model"):
        claim_output(settings(output=str(internvl)), {"seed": 0})


def test_a_checkpoint_of_another_run_is_refused(trained: TrainConfig) -> None:
    cursor = read_cursor(last_checkpoint(trained.output))
    check_identity(cursor.identity, cursor.identity, "the checkpoint")
    assert cursor.identity["precision"] in ("fp32", "bf16"), "not what was asked for, but what it was"
    assert cursor.identity["backbone"] == contents_of(trained.backbone)
    card = read_card(trained.output)
    assert card is not None
    assert card["identity"] == cursor.identity
    for name in ("index", "selection", "order", "seed", "precision", "prompt_format", "backbone"):
        with pytest.raises(TrainingError, match=rf"the checkpoint \({name} .*--restart"):
            check_identity(cursor.identity, {**cursor.identity, name: "another"}, "the checkpoint")


def test_a_run_may_lie_in_an_object_store(
    s3: str, corpus: Corpus, settings: Settings, trained: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    root = f"{s3}/training"
    folders = {"images": Path(corpus.images), "backbone": Path(trained.backbone), "shards": corpus.shards}
    for name, folder in folders.items():
        for file in folder.iterdir():
            storage.write_bytes(f"{root}/{name}/{file.name}", file.read_bytes())
    write_index(f"{root}/shards", f"{root}/index")
    config = settings(
        index=f"{root}/index", output=f"{root}/output", image_root=f"{root}/images",
        backbone=f"{root}/backbone", zero_stage=3, data_workers=1,
    )  # fmt: skip
    train(config)
    card = read_card(config.output)
    assert card is not None
    assert card["metrics"]["rollouts"] == TOTAL
    assert card["index"] == config.index
    names = {urls.basename(file.url) for file in storage.list_files(config.output)}
    assert {"config.json", "model.safetensors", "bisieve.json", "run.json"} <= names
    assert any("tfevents" in name for name in names)
    train(config)
    assert "nothing to do" in capsys.readouterr().out


def test_missing_images_stop_the_run_before_it_starts(
    corpus: Corpus, settings: Settings, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(corpus.images, images)
    (images / "3.png").unlink()
    (images / "4.png").unlink()
    with pytest.raises(ImageError, match=r"2 missing, such as 3\.png"):
        train(settings(image_root=str(images)))
    assert not (tmp_path / "output").exists()


def test_rollouts_with_missing_images_and_up_to_n_broken_ones_are_left_out_on_request(
    corpus: Corpus, settings: Settings, tmp_path: Path, ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    shutil.copytree(corpus.images, images)
    (images / "3.png").unlink()
    config = settings(
        image_root=str(images), skip_missing_images=True, max_failures=5, checkpoint_every=2,
        skip_broken_images=1, validation_fraction=0.4, validate_every=100,
    )  # fmt: skip
    selection = chosen_selection(config)
    uses = [rollout.images[0] for rollout in fetch_rollouts(selection.rows, selection.shards)]
    left_out = tuple(row for row, name in enumerate(uses) if name == "3.png")
    held = validation_split(selection, 0.4, config.seed, left_out)
    plan = BatchPlan(
        selection.fingerprint, TOTAL, left_out, config.seed, 1, 6, prompts_of(selection), True, held
    )
    first = {uses[row]: step for step in reversed(range(plan.total_steps)) for row in plan.batch(step)}
    early, late = min(first, key=lambda name: first[name]), max(first, key=lambda name: first[name])
    assert first[late] >= config.checkpoint_every
    validated = min({uses[row] for row in held} - first.keys())
    for name in (early, late, validated):
        (images / name).write_bytes(b"no image")
    whole = next(name for name in first if name not in (early, late, validated))
    Image.new("RGBA", (28, 28), (0, 0, 0, 0)).save(images / whole)
    why = "no image of a known format"

    with pytest.raises(ImageError, match=rf"at most 1 broken image; found 2: {early} \({why}\); {late} "):
        train(config)
    said = capsys.readouterr().out
    assert f"selection: {plan.rows_per_epoch} of 43 rollouts" in said
    assert "4 left out for missing images" in said, "3, 13 and 23 of the one source and 3 of the other"
    assert f"left out the rollouts of broken image {early} (1 of at most 1): {why}" in said
    assert not (tmp_path / "output" / "config.json").exists()

    train(replace(config, skip_broken_images=3))
    said = capsys.readouterr().out
    assert re.search(rf"resumed at step [1-9] of {plan.total_steps}", said)
    assert f"broken image {early} (" not in said, "it was counted before"
    assert f"left out the rollouts of broken image {late} (2 of at most 3): {why}" in said
    assert f"left out the rollouts of broken image {validated} (3 of at most 3): {why}" in said
    names = "; ".join(f"{name} ({why})" for name in sorted((early, late, validated)))
    assert f"left out: the rollouts of 3 broken images: {names}\n" in joined(said)
    card = json.loads((tmp_path / "output" / "bisieve.json").read_text())
    assert card["broken_images"] == dict.fromkeys((early, late, validated), why)
    on_white = int(card["metrics"]["transparent"])
    assert on_white >= 1
    assert f"transparent images on a white background: {on_white} (counted per use)" in said
    trained_on = [row for step in range(plan.total_steps) for row in plan.batch(step)]
    assert card["metrics"]["rollouts"] == sum(uses[row] not in (early, late) for row in trained_on)


def test_once_an_image_is_written_under_the_name_of_a_bad_one_the_same_command_goes_on(
    corpus: Corpus, settings: Settings, tmp_path: Path, ray_cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    shutil.copytree(corpus.images, images)
    config = settings(image_root=str(images), checkpoint_every=1)
    selection = chosen_selection(config)
    plan = BatchPlan(
        selection.fingerprint, TOTAL, (), config.seed, 1, config.global_batch, prompts_of(selection), True
    )
    rollouts = fetch_rollouts(selection.rows, selection.shards)
    early = {rollouts[row].images[0] for step in range(3) for row in plan.batch(step)}
    bad = min({rollout.images[0] for rollout in rollouts} - early)
    (images / bad).write_bytes(b"no image")
    with pytest.raises(
        ImageError, match=rf"{bad}.*write an image under that name, then run the same command"
    ):
        train(config)
    shutil.copy(images / min(early), images / bad)
    train(config)
    assert "resumed at step" in capsys.readouterr().out
    lines = read_sample_logs(last_checkpoint(config.output))
    assert Counter(row for line in lines for row in line["rows"]) == Counter(range(TOTAL))


def test_an_index_whose_shards_have_changed_is_refused(
    settings: Settings, corpus: Corpus, tmp_path: Path
) -> None:
    shard = corpus.shards / "reading.jsonl"
    before = shard.stat()
    text = shard.read_text()
    try:
        shard.write_text(text + "\n")
        with pytest.raises(IndexUnusableError, match=r"reading\.jsonl"):
            train(settings())
    finally:
        shard.write_text(text)
        os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not (tmp_path / "output").exists()
