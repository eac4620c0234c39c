"""What a dry run says, needs and leaves behind."""

import argparse
import json
import re
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support.backbones import build_internvl
from support.markdown import ROOT, Page
from support.piped_lines import joined
from support.shown_commands import noted
from support.small_corpus import ROLLOUTS, Corpus, make_record, write_index

import bisieve
from bisieve._text import rounded
from bisieve.errors import ImageError, TrainingError
from ray_train.choices import Workers
from ray_train.cli import train as command
from ray_train.config import TrainConfig
from ray_train.estimates.dry_run import _duration
from ray_train.training import driver
from ray_train.training.driver import train
from ray_train.training.worker import trainable_backbone

Settings = Callable[..., TrainConfig]


def test_a_dry_run_tells_all_and_needs_neither_ray_nor_weights_and_writes_nothing(
    settings: Settings,
    internvl: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(internvl, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    monkeypatch.setattr(driver, "_fit", None)  # the only way to Ray
    before = sorted(tmp_path.rglob("*"))
    config = settings(
        backbone=str(tmp_path / "bare"),
        dry_run=True,
        validation_fraction=0.3,
        epochs=2,
        peak_flops=1e8,
        mfu=0.5,
    )
    train(config)
    assert sorted(tmp_path.rglob("*")) == before, "something was written"

    lines = joined(capsys.readouterr().out).splitlines()
    assert lines[-1] == "dry run: nothing was written"
    resolved = tomllib.loads("\n".join(line for line in lines if line.startswith("  ") and " = " in line))
    assert resolved["output"] == f"file://{config.output}"
    assert TrainConfig(**resolved).max_length == 8192
    table = {line.split("  ")[0]: [int(n) for n in re.findall(r" (\d+)(?= |$)", line)] for line in lines}
    counts = {name: table[name] for name in ("adding", "reading", "all", "held out")}
    assert counts["all"] == [a + b for a, b in zip(counts["adding"], counts["reading"], strict=True)]
    assert counts["all"][0] + counts["held out"][0] == sum(ROLLOUTS.values())
    assert lines[0] == "planning: reading the index, and what it selects (100%)"
    assert lines[1].startswith("images: reading the headers of ")
    assert lines[2].endswith(f"{counts['held out'][0]} held out for validation")
    assert lines[3].startswith(f"run: {2 * -(-counts['all'][0] // 6)} steps of 6 rollouts")
    text = "\n".join(lines)
    assert "in packs of 200" in text
    everything = [line.split()[-2:] for line in lines if line.startswith(("rollouts  ", "negative steps"))]
    assert everything[0] == [str(sum(ROLLOUTS.values()))] * 2  # the corpus, and the best 100 %
    assert everything[1][0] == everything[1][1]
    assert "in rows of --micro-batch 2" in text
    assert re.search(r"vision 13,800 frozen, projector 8,800 trained, language 57,100 trained", text)
    assert re.search(r"activations [\d.]+ MiB", text)
    time = re.search(r"([\d.]+) (\w+) for ([\d.]+) TFLOPs on 2 devices of 0.0001 TFLOP/s .*50%", text)
    assert time is not None
    seconds = float(time[1]) * {"hours": 3600, "minutes": 60, "seconds": 1}[time[2]]
    assert seconds == pytest.approx(float(time[3]) / (2 * 0.0001 * 0.5), rel=0.02)


def test_a_dry_run_shows_a_selection_by_other_options_than_the_indexs(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_fit", None)  # the only way to Ray
    train(settings(fraction=0.5, dry_run=True, strategy="low_mc", all_negative="drop"))
    lines = joined(capsys.readouterr().out).splitlines()
    assert "best 50%: selected by strategy low_mc, all negative drop" in lines
    (shares,) = [line.split()[-2:] for line in lines if line.startswith("negative steps")]
    assert float(shares[1].rstrip("%")) > float(shares[0].rstrip("%"))


def test_the_corpus_of_a_dry_run_is_the_one_without_what_is_left_out(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_fit", None)  # the only way to Ray
    config = settings(fraction=1.0, dry_run=True, exclude=str(tmp_path / "ids.txt"))
    ids = bisieve.open_index(config.index).select(0.5).table["rollout_id"].to_pylist()
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    train(config)
    lines = [line.split() for line in joined(capsys.readouterr().out).splitlines()]
    (shown,) = [words[1:] for words in lines if words[:1] == ["rollouts"] and len(words) == 3]
    assert shown == [str(sum(ROLLOUTS.values()) - len(ids))] * 2


def test_a_dry_run_names_broken_images_of_its_sample_and_refuses_more_than_are_tolerated(
    settings: Settings, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(corpus.images, tmp_path / "images")
    for name in ("4.png", "7.png"):
        (tmp_path / "images" / name).write_bytes(b"")
    why = "no image of a known format"
    config = settings(image_root=str(tmp_path / "images"), dry_run=True, workers=Workers(1, 1))
    train(replace(config, skip_broken_images=2))
    note = f"of the sample: left out: the rollouts of 2 broken images: 4.png ({why}); 7.png ({why})"
    said = joined(capsys.readouterr().out)
    assert note in said
    assert re.search(r"^time: unknown for [\d.]+ TFLOPs on 1 device without a GPU; --peak-flops", said, re.M)
    with pytest.raises(ImageError, match="expected at most 1 broken image; found 2: "):
        train(replace(config, skip_broken_images=1))
    with pytest.raises(ImageError, match=r"can be decoded in [47]\.png"):
        train(config)


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_dry_run_counts_adapters_and_needs_no_weights_for_them(
    tied: bool, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_internvl(tmp_path / "backbone", tied)
    config = settings(backbone=str(tmp_path / "backbone"), lora_rank=4)
    real = trainable_backbone(config)
    (tmp_path / "backbone" / "model.safetensors").unlink()
    train(replace(config, dry_run=True, max_tiles=0))
    text = joined(capsys.readouterr().out)
    assert "  max_tiles = 0  # 6" in text.splitlines()
    found = re.search(r"projector 8,800 trained, language ([\d,]+) of which ([\d,]+) trained", text)
    assert found is not None
    all_parts = real.model.named_parameters()
    language = [weight for name, weight in all_parts if real.family.part_of(name) == "language"]
    assert found[1] == rounded(sum(weight.numel() for weight in language))
    trained = [weight for weight in language if weight.requires_grad]
    assert found[2] == rounded(sum(weight.numel() for weight in trained))


@pytest.mark.parametrize(
    ("vocabulary", "largest"), [(400, "in training"), (40_000_000, "at the start")], ids=["small", "large"]
)
def test_the_memory_of_a_device_is_that_of_the_start_where_training_needs_less(
    vocabulary: int, largest: str, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build_internvl(tmp_path)
    sizes = json.loads((tmp_path / "config.json").read_text())
    sizes["text_config"]["vocab_size"] = vocabulary
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    options = {"workers": Workers(64, 64), "zero_stage": 3, "lora_rank": 1, "precision": "fp32"}
    train(settings(backbone=str(tmp_path), **options, dry_run=True))
    text = joined(capsys.readouterr().out)
    size = {
        where: re.search(rf"{where}.*?:? ([\d.]+ \wiB)", text)[1]  # type: ignore[index]
        for where in ("tokens at once", "in training", "at the start", "host memory first")
    }
    assert (
        size["tokens at once"]
        == size[largest]
        != size["at the start" if vocabulary == 400 else "in training"]
    )
    if vocabulary > 400:
        loaded = 4 * 48 * vocabulary / 2**30
        assert float(size["at the start"].split()[0]) == pytest.approx(loaded, abs=0.01)
        assert float(size["host memory first"].split()[0]) == pytest.approx(64 * loaded, rel=0.001)


def test_a_folder_without_an_image_processor_is_refused(
    settings: Settings, internvl: Path, tmp_path: Path
) -> None:
    shutil.copytree(internvl, tmp_path / "bare", ignore=shutil.ignore_patterns("*processor*"))
    with pytest.raises(TrainingError, match="expected config, tokenizer and image processor at"):
        train(settings(backbone=str(tmp_path / "bare"), dry_run=True))


@pytest.fixture
def of_real_tiles(internvl: Path, tmp_path: Path) -> Path:
    """A backbone without weights whose images are tiles of 448 x 448 pixels and 256 tokens."""
    folder = tmp_path / "tiles"
    shutil.copytree(internvl, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    changes = {
        "config.json": {"image_seq_length": 256},
        "preprocessor_config.json": {"size": {"height": 448, "width": 448}},
    }
    for name, change in changes.items():
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | change))
    return folder


@pytest.fixture
def dry_lines(
    settings: Settings, of_real_tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """Says what a dry run says of rollouts with these images and questions."""

    def run(*prompts: tuple[list[str], str]) -> list[str]:
        shards = tmp_path / "shards"
        shards.mkdir()
        lines = [
            json.dumps(make_record("s", place) | {"image": images, "question": text, "question_orig": text})
            for place, (images, text) in enumerate(prompts)
        ]
        (shards / "s.jsonl").write_text("\n".join(lines) + "\n")
        index = str(tmp_path / "index")
        write_index(str(shards), index)
        places = {"index": index, "image_root": str(tmp_path), "backbone": str(of_real_tiles)}
        one = Workers(1, 1)  # whose part is all of them
        train(settings(**places, workers=one, dry_run=True, max_tiles=0, pack_tokens=8192))
        return capsys.readouterr().out.splitlines()

    return run


@pytest.mark.parametrize(("images", "tokens"), [(1, 7 * 256), (2, 256), (5, 256)])
def test_a_dry_run_shows_the_tokens_an_image_where_images_share_the_tiles(
    images: int, tokens: int, dry_lines: Callable[..., list[str]], tmp_path: Path
) -> None:
    names = [f"{number}.png" for number in range(images)]
    for name in names:
        Image.new("RGB", (1000, 750)).save(tmp_path / name)
    lines = dry_lines((names, "Same?"))
    assert f"  tokens an image: {tokens + 2:,}" in lines, "with <img> and </img>"
    assert not any("skipped" in line for line in lines)


def test_a_dry_run_counts_unclear_places_and_transparent_images(
    dry_lines: Callable[..., list[str]], tmp_path: Path
) -> None:
    Image.new("RGB", (28, 28)).save(tmp_path / "a.png")
    Image.new("RGBA", (60, 40), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    lines = dry_lines(
        (["a.png"], "<image>How many?"),
        (["a.png", "a.png"], "<image>How many of both?"),
        (["a.png", "a.png"], "Count in <image>."),
        (["a.png"], "Is <image 1> as <image 2>?"),
        (["clear.png"], "How many?"),
    )
    noted = [line for line in lines if re.match(r"  of the sample: |    \d+ rollout", line)]
    assert noted == [
        "  of the sample: transparent images on a white background: 1 (counted per use)",
        "  of the sample: images moved to the front: placeholders of 3 rollouts do not match the images",
        "    2 rollouts with 1 placeholder for 2 images",
        "    1 rollout with 2 placeholders for 1 image",
    ]


def test_the_readmes_command_fits_eight_devices_of_80_gb(
    corpus: Corpus, internvl_8b: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shown,) = [block.text for block in Page(ROOT / "README.md").blocks if "ray job submit" in block.text]
    (words,) = [words for words in noted(shown, tmp_path) if "ray_train/train_mprm.py" in words]
    options = words[words.index("ray_train/train_mprm.py") + 1 :]
    assert options[options.index("--backbone") + 1] == "OpenGVLab/InternVL3-8B-hf"
    here = {
        "--index": corpus.index, "--image-root": corpus.images, "--backbone": str(internvl_8b),
        "--output": str(tmp_path / "output"),
    }  # fmt: skip
    for option, place in here.items():
        options[options.index(option) + 1] = place
    parser = argparse.ArgumentParser()
    command.configure(parser)
    assert command.run(parser.parse_args([*options, "--dry-run"])) == 0
    text = joined(capsys.readouterr().out)
    assert "vision 304,000,000 frozen, projector 27,500,000 trained, language 7,610,000,000 trained" in text
    (chosen,) = [line for line in text.splitlines() if "--zero-stage auto" in line]
    assert chosen == (
        "ZeRO 1 by --zero-stage auto: 48 of 75 GiB a device; ZeRO 3 would send 48 GB a micro-step"
    )
    assert "may run out" not in text
    needed = re.search(r"bfloat16 \(as GPUs have it\), ZeRO 1 on 8 workers.*: ([\d.]+) GiB", text)
    assert needed is not None
    assert 40 < float(needed[1]) < 0.9 * 80e9 / 2**30


@pytest.mark.parametrize(
    ("hours", "shown"),
    [
        (1e-9, "less than a second"), (0.001, "3.6 seconds"), (0.03, "108.0 seconds"), (0.5, "30.0 minutes"),
        (2, "2.0 hours"), (12345.67, "12,345.7 hours"),
    ],
)  # fmt: skip
def test_a_time_is_shown_in_a_unit_that_fits(hours: float, shown: str) -> None:
    assert _duration(hours) == shown
