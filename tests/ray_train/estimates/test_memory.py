"""Which ZeRO stage is chosen for a device's memory, and what is said where none fits."""

from pathlib import Path
from typing import Any

import pytest
from conftest import resolved

from bisieve.errors import TrainingError
from ray_train.estimates import memory
from ray_train.estimates.footprint import Layers
from ray_train.estimates.memory import ModelSizes, choose_stage, fitted, needed, remedies

# Parameters in all, and of vision; hidden, layers, query, key, MLP.
MODELS = {
    "InternVL3-8B": (7.94e9, 0.304e9, 3584, 28, 3584, 512, 18944),
    "InternVL3.5-8B": (8.53e9, 0.304e9, 4096, 36, 4096, 1024, 12288),
    "Qwen2.5-VL-7B": (8.29e9, 0.677e9, 3584, 28, 3584, 512, 18944),
    "Qwen3-VL-8B": (8.77e9, 0.416e9, 4096, 36, 4096, 1024, 12288),
}
ON_GPUS = ("--device", "gpu", "--max-length", "8192", "--pack-tokens", "8192")


def sizes_of(name: str) -> ModelSizes:
    total, vision, hidden, layers, query, key, mlp = MODELS[name]
    return ModelSizes(
        int(total), int(total - vision), Layers(layers, hidden, 8 * hidden + 7 * query + 3 * key + 4 * mlp)
    )


def gib(name: str, *argv: str) -> float:
    return needed(sizes_of(name), resolved(*ON_GPUS, *argv)) / 2**30


@pytest.mark.parametrize(
    ("name", "plain4", "saving4", "plain8", "saving8"),
    [
        ("InternVL3-8B", 94.5, 42.0, 76.7, 24.2),
        ("InternVL3.5-8B", 103.7, 45.2, 84.5, 26.0),
        ("Qwen2.5-VL-7B", 94.8, 42.3, 76.8, 24.3),
        ("Qwen3-VL-8B", 104.3, 45.9, 84.8, 26.3),
    ],
)
def test_the_estimates_of_zero_3_are_those_of_the_field(
    name: str, plain4: float, saving4: float, plain8: float, saving8: float
) -> None:
    for workers, plain, saving in (("4", plain4, saving4), ("8", plain8, saving8)):
        options = ("--zero-stage", "3", "--workers", workers)
        assert gib(name, *options) == pytest.approx(saving, abs=0.5)
        assert gib(name, *options, "--no-gradient-checkpointing") == pytest.approx(plain, abs=0.7)


@pytest.mark.parametrize(("workers", "expected"), [("8", 48), ("16", 41), ("64", 35)])
def test_the_estimates_of_zero_1_are_those_of_the_field(workers: str, expected: int) -> None:
    assert round(gib("InternVL3-8B", "--zero-stage", "1", "--workers", workers)) == expected


@pytest.mark.parametrize(
    ("argv", "gigabytes", "stage"),
    [
        (("--workers", "8"), 80, 1),
        (("--workers", "4"), 80, 1),
        (("--workers", "4"), 64, 2),
        (("--workers", "8"), 40, 3),
        (("--workers", "8-64"), 40, 3),  # as for the least of the range
        (("--workers", "8", "--offload", "optimizer"), 80, 2),
        (("--workers", "8", "--offload", "parameters"), 80, 3),
    ],
)
def test_auto_is_the_stage_that_sends_least_of_those_that_fit(
    argv: tuple[str, ...], gigabytes: int, stage: int
) -> None:
    config = resolved(*ON_GPUS, *argv)
    assert choose_stage(sizes_of("InternVL3-8B"), config, gigabytes * 1e9).zero_stage == stage


def test_where_nothing_fits_the_options_that_change_it_are_named() -> None:
    config = resolved(*ON_GPUS, "--workers", "8", "--zero-stage", "1", "--no-gradient-checkpointing")
    advice = remedies(sizes_of("InternVL3-8B"), config, 80e9)
    assert "--gradient-checkpointing" in advice
    assert "--zero-stage 3," not in advice  # 76.7 GiB, which alone does not help


def test_a_model_that_a_device_cannot_hold_is_refused_before_anything_starts(internvl: Path) -> None:
    config = resolved("--backbone", str(internvl), "--device-memory", "0.00001")
    with pytest.raises(TrainingError, match=r"GiB of memory a device, estimated.*smaller --backbone"):
        fitted(config)


def test_the_choice_is_said_in_one_line(internvl: Path) -> None:
    config, lines = fitted(resolved("--backbone", str(internvl), "--device-memory", "80"))
    assert config.zero_stage == 1
    assert len(lines) == 1
    assert lines[0].startswith("ZeRO 1 by --zero-stage auto: ")


def test_without_a_known_memory_auto_is_zero_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "load_skeleton", None)
    found: Any = fitted(resolved("--device", "cpu"))
    assert (found[0].zero_stage, found[1]) == (3, [])
