"""Perform one run of the study in this process: select, train, evaluate, and return a row of the results."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import bisieve
from bench.study.corpora import corpus_of, index_of
from bench.study.grid import CONTROL, UNTRAINED, Run
from bench.study.recipe import RECIPE, REGIMES
from ray_train.choices import Workers
from ray_train.config import TrainConfig
from ray_train.config_io import located
from ray_train.evaluation.config import EvaluateConfig
from ray_train.sweeps.trial import evaluate_here, run_trial

_MEASURED = ("auc", "overall_f1", "pooled_macro_f1", "brier", "processbench_f1", "steps")


def perform(run: Run, work: Path, **recipe: Any) -> dict[str, Any]:
    """Train and evaluate one run; ``recipe`` replaces options of the recipe, to choose it."""
    if run.strategy == UNTRAINED:
        return _untrained(run, work)
    url, images = index_of(run, work), str(corpus_of(run, work))
    output = tempfile.mkdtemp(prefix="trial-", dir=work)
    base = REGIMES[run.regime].backbone
    chosen: dict[str, Any] = {"strategy": run.strategy, "ties": run.ties}
    if run.strategy in ("bis", "paired", "stratified"):
        chosen["alpha"] = str(run.alpha)
    if run.strategy == CONTROL:
        chosen = {"fraction": 1.0}
    train = TrainConfig(
        index=url, image_root=images, backbone=str(base.with_name(run.base or base.name)), output=output,
        workers=Workers(1, 1), seed=run.seed, epochs=run.epochs, objective=run.objective,
        **{**RECIPE, "fraction": run.fraction, **chosen, **_threshold(run), **recipe},
    )  # fmt: skip
    train.check()
    train = located(train)
    evaluation = replace(_evaluation(images, train.output), model=train.output)
    try:
        found = run_trial(train, evaluation)
    finally:
        shutil.rmtree(output, ignore_errors=True)
    statistics = bisieve.open_index(url).select(train.fraction, **train.ranking).statistics
    training = found["training"]
    return {
        **{name: found[name] for name in _MEASURED},
        "position_baseline_auc": found["position_baseline"]["auc"],
        "benchmark": found["benchmark_sha256"][:16],
        "rollouts": training["rollouts"], "optimizer_steps": training["optimizer_steps"],
        "mean_loss": training["mean_loss"], "last_loss": training["losses"][-1],
        "seconds": training["seconds"], "evaluation_seconds": found["evaluation_seconds"],
        "mixed_share": statistics.mixed / statistics.rollouts,
        "all_negative_share": statistics.all_negative_share,
        "negative_share": statistics.negative_share, "shortcut": statistics.shortcut,
        "questions": statistics.questions,
    }  # fmt: skip


def _threshold(run: Run) -> dict[str, float]:
    return {"label_threshold": run.label_threshold} if run.label_threshold else {}


def _evaluation(images: str, model: str) -> EvaluateConfig:
    return EvaluateConfig(
        model=model, benchmark=f"{images}/benchmark.jsonl", image_root=images, output=f"{model}/metrics",
        workers=1, batch=64, device="cpu", max_length=2560,  # the same rewards in fewer packs
        threshold=0.5,  # fixed: then all solutions are reported
    )  # fmt: skip


def _untrained(run: Run, work: Path) -> dict[str, Any]:
    """Return the metrics of the base itself."""
    images = str(corpus_of(run, work))
    base = str(REGIMES[run.regime].backbone)
    config = located(replace(_evaluation(images, base), output=str(work / UNTRAINED), system="none"))
    found = evaluate_here(config)
    return {name: found[name] for name in _MEASURED} | {
        "position_baseline_auc": found["position_baseline"]["auc"],
        "benchmark": found["benchmark_sha256"][:16], "seconds": 0.0,
    }  # fmt: skip
