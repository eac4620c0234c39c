"""Which ZeRO stage is chosen for a device's memory, and what is said where none fits."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager
from support.hub_checkpoints import gemma_3
from support.runs import resolved

from bisieve.errors import TrainingError
from ray_train.estimates import memory
from ray_train.estimates.device_memory import device_memory
from ray_train.estimates.memory import (
    Layers,
    ModelSizes,
    choose_stage,
    model_sizes,
    peak_bytes,
    remedies,
    resolve_zero_stage,
)
from ray_train.model.skeleton import load_skeleton

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
    return peak_bytes(sizes_of(name), resolved(*ON_GPUS, *argv)) / 2**30


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


def test_a_trained_vision_encoder_reads_as_many_patches_for_a_token_as_its_family_has(
    tmp_path: Path,
) -> None:
    gemma_3(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["mm_tokens_per_image"] = 1  # of 4 × 4 patches; each of Gemma 3's 256 has as many
    (tmp_path / "config.json").write_text(json.dumps(config))
    config = resolved(
        *ON_GPUS, "--pack-tokens", "0", "--micro-batch", "1", "--train-vision", "--workers", "8"
    )
    sizes = model_sizes(load_skeleton(str(tmp_path), ["vision", "projector", "language"]), config)
    layer = 12 * 32 + 3 * 64  # numbers kept of a patch in the one layer, and 32 between layers
    of_vision = peak_bytes(sizes, config) - peak_bytes(replace(sizes, vision=None), config)
    assert of_vision == 2 * 16 * 8192 * (layer + 32)


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


H100, A100 = ({"GPU": 8.0, f"accelerator_type:{kind}": 1.0} for kind in ("H100", "A100"))
HEAD = {"CPU": 8.0}


def nodes_with(*resources: dict[str, float]) -> list[dict[str, Any]]:
    return [{"Alive": True, "Resources": one} for one in resources]


@pytest.mark.parametrize("found_nodes", [None, nodes_with(HEAD, H100)], ids=["as told", "by Ray"])
def test_a_model_that_a_device_cannot_hold_is_refused_and_the_error_names_options(
    found_nodes: Any, internvl_8b: Path
) -> None:
    config = resolved("--backbone", str(internvl_8b), "--workers", "2")
    told = replace(config, device_memory=80.0) if found_nodes is None else config
    with pytest.raises(TrainingError) as error:
        resolve_zero_stage(told, found_nodes)
    assert str(error.value) == (
        "expected 77.8 GiB of memory a device, estimated, with ZeRO 3 on 2 workers; found 74.5 GiB; "
        "give --zero-stage 3 --offload optimizer, or --workers 8"
    )


@pytest.mark.parametrize("found_nodes", [None, nodes_with(HEAD, H100)], ids=["as told", "by Ray"])
def test_a_device_that_is_nearly_full_is_warned_of(found_nodes: Any, internvl_8b: Path) -> None:
    argv = ("--backbone", str(internvl_8b), "--workers", "8", "--zero-stage", "3")
    config = resolved(*argv, "--no-gradient-checkpointing", "--max-length", "7680", "--pack-tokens", "7680")
    told = replace(config, device_memory=80.0) if found_nodes is None else config
    found, lines = resolve_zero_stage(told, found_nodes)
    assert found == told
    (line,) = lines
    assert line.startswith("memory may run out: 73 of 75 GiB a device, estimated; give --gradient-check")


def test_the_choice_is_said_in_one_line(internvl_8b: Path) -> None:
    config = resolved("--backbone", str(internvl_8b), "--workers", "8")
    expected = "ZeRO 1 by --zero-stage auto: 48 of 75 GiB a device; ZeRO 3 would send 48 GB a micro-step"
    for found, lines in (
        resolve_zero_stage(replace(config, device_memory=80.0)),
        resolve_zero_stage(config, nodes_with(HEAD, H100)),
    ):  # fmt: skip
        assert (found.zero_stage, lines) == (1, [expected])


@pytest.mark.parametrize(
    ("found_nodes", "why"),
    [
        (nodes_with(HEAD, A100), "the cluster has A100"),  # of 40 or 80 GB
        (nodes_with(A100, H100), "the cluster has A100"),
        (nodes_with({"GPU": 1.0}), "the cluster has GPUs of no named type"),
        (nodes_with(HEAD), "no node of the cluster has a GPU yet"),
        (None, "the GPUs are on other machines"),
    ],
    ids=["A100", "one of two", "nameless", "none yet", "elsewhere"],
)
def test_gpus_of_unknown_memory_are_said_to_be_such_in_one_line_that_names_the_option(
    found_nodes: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "load_skeleton", None)
    config, lines = resolve_zero_stage(resolved("--device", "gpu"), found_nodes)
    assert config.zero_stage == 3
    assert lines == [
        f"GPU memory unknown ({why}), not checked: give --device-memory GB; ZeRO 3 by --zero-stage auto"
    ]
    config, (line,) = resolve_zero_stage(resolved("--device", "gpu", "--zero-stage", "2"), found_nodes)
    assert config.zero_stage == 2
    assert line.endswith("give --device-memory GB")


def test_of_several_kinds_of_gpus_the_smallest_counts_and_a_label_of_ones_own_over_rays() -> None:
    config = resolved()
    h200 = {"GPU": 8.0, "accelerator_type:H200": 1.0}
    labelled = A100 | {"accelerator_type:A100-80G": 1.0}
    gone = {"Alive": False, "Resources": A100}
    assert device_memory(config, [*nodes_with(h200, H100), gone]) == (80e9, "")
    assert device_memory(config, nodes_with(HEAD, h200)) == (141e9, "")
    assert device_memory(config, nodes_with(labelled)) == (80e9, "")


@pytest.mark.parametrize(
    ("card", "gigabytes"),
    [
        ("NVIDIA H100 80GB HBM3", 80), ("NVIDIA H200", 141), ("NVIDIA L40S", 48), ("NVIDIA A10G", 24),
        ("Tesla T4", 16), ("NVIDIA RTX A6000", 48), ("NVIDIA GB200", 186), ("NVIDIA B200", 180),
        ("NVIDIA A100-SXM4-80GB", 0), ("Tesla V100-SXM2-16GB", 0), ("NVIDIA GeForce RTX 5090", 0),
    ],
)  # fmt: skip
def test_the_memory_of_a_card_is_found_by_the_name_that_ray_gives_it(card: str, gigabytes: int) -> None:
    kind = NvidiaGPUAcceleratorManager._gpu_name_to_accelerator_type(card)
    nodes = nodes_with({"GPU": 1.0, f"accelerator_type:{kind}": 1.0})
    assert device_memory(resolved(), nodes)[0] == gigabytes * 1e9


def test_on_cpus_nothing_is_compared_and_auto_is_zero_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "load_skeleton", None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for argv, nodes in ((("--device", "cpu"), None), ((), None), ((), nodes_with(HEAD))):
        found: Any = resolve_zero_stage(resolved(*argv), nodes)
        assert (found[0].zero_stage, found[1]) == (3, [])
