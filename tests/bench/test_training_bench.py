"""The benchmarks of training: the contenders compute the same, and a missed bound is an exit code."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.training import path, run
from bench.training.contenders import CONTENDERS
from bench.training.models import SIZES, build_model
from bench.training.rollouts import make_prompts
from bench.training.utilization import attention_kernels, mfu, step_flops
from ray_train.data.workers import chosen_workers

pytestmark = pytest.mark.slow  # a measured training step


def test_all_contenders_have_the_same_loss_and_gradient() -> None:
    prompts, device = make_prompts(2, SIZES["nano"]), torch.device("cpu")
    losses, gradients = [], []
    for contender in CONTENDERS.values():
        model = build_model(SIZES["nano"], device)
        loss = torch.stack(list(contender(model, prompts, device))).sum() / 36
        loss.backward()
        losses.append(float(loss.detach()))
        weights = model.model.language_model.layers[0].mlp.up_proj.weight
        gradients.append(weights.grad)
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-5)
    assert float(gradients[0].abs().max()) > 1e-4
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], atol=1e-5, rtol=0)


MEASURED = {
    "paper": {"seconds": 8.0, "memory": 100e6, "loss": 0.7},
    "plain": {"seconds": 7.0, "memory": 90e6, "loss": 0.7},
    "ours": {"seconds": 4.0, "memory": 70e6, "loss": 0.7},
}


@pytest.mark.parametrize(
    ("ours", "missed"),
    [
        ({}, None),
        ({"seconds": 4.01}, r"2\.00 × the rollouts/s of the paper's step"),
        ({"seconds": 4.5}, r"1\.56 × those of plain Hugging Face code"),
        ({"memory": 71e6}, r"0\.71 × the memory of the paper's step"),
        ({"loss": 0.701}, r"losses differ by 1\.0e-03"),
    ],
)
def test_each_bound_of_a_step_that_is_missed_makes_the_exit_code_1(
    ours: dict[str, float], missed: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = MEASURED | {"ours": MEASURED["ours"] | ours}
    monkeypatch.setattr(run, "_measure", lambda contender, *_: measured[contender])  # minutes of work
    found = run.main(["--sizes", "nano", "--prompts", "1", "--results", str(tmp_path / "results")])
    written = (tmp_path / "results").read_text()
    assert found == ("MISSED" in written) == (missed is not None)
    assert missed is None or re.search(f"MISSED  {missed}", written)


def test_the_data_path_is_measured_with_the_default_workers_and_judged_by_them(tmp_path: Path) -> None:
    results = tmp_path / "results"
    sizes = ["--size", "nano", "--prompts", "1", "--steps", "2", "--workers", "0"]
    found = path.main([*sizes, "--results", str(results)])
    usual = chosen_workers(-1, len(os.sched_getaffinity(0)), 1)
    rows = [line.split() for line in results.read_text().splitlines()]
    share = next(row[-1] for row in rows if row and row[0] == str(usual))
    assert f"{share} of a step waiting with {usual}, the default here, at most 5%" in results.read_text()
    assert found == int("MISSED" in results.read_text())


@pytest.mark.parametrize(("waiting", "holds"), [(0.0, True), (0.05, True), (0.051, False)])
def test_of_a_step_no_more_than_5_percent_may_be_waiting(waiting: float, holds: bool) -> None:
    assert path._verdict(1, waiting)[1] is holds


def test_the_use_of_a_gpu_is_the_flops_of_our_step_against_its_peak() -> None:
    prompts, device = make_prompts(2, SIZES["nano"]), torch.device("cpu")
    model = build_model(SIZES["nano"], device)
    flops = step_flops(model, prompts)
    weights = sum(p.numel() for name, p in model.named_parameters() if "language_model.layers" in name)
    shared = sum(prompt.length for prompt in prompts)
    tokens = shared + sum(len(ids) - prompt.length for prompt in prompts for ids in prompt.rollouts)
    assert flops > 6 * 0.95 * weights * tokens, "a trained language model, and more"
    assert mfu(2e12, 4.0, 1e12) == 0.5
    kernels = attention_kernels(lambda: sum(CONTENDERS["ours"](model, prompts[:1], device)))
    assert kernels
    ours: dict[str, Any] = {"flops": 2e12, "seconds": 4.0, "dtype": "bfloat16", "attention": kernels}
    (line,) = run._use(ours, 1e12)
    assert line == f"ours: MFU 50.0% of 1e+12 FLOP/s, bfloat16, attention by {', '.join(kernels)}"
    assert "unknown" in run._use(ours, 0.0)[0]
