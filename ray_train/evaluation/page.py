"""Add the results of an evaluation to the page (README.md) of the model that was evaluated.

    metrics.json ──▶ YAML header, which the hub reads ──▶ the section "Evaluation"

The section is written from the header, so that an evaluation on another benchmark adds rows. The rest of the
page does not change.
"""

import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import yaml

from bisieve._text import one_line
from bisieve.errors import StorageError
from bisieve.io import storage
from bisieve.io.urls import join
from ray_train.choices import TEST, TRAINING
from ray_train.model.model_card import END_OF_RESULTS, README, RESULTS

_ABOUT = (
    "Intervals come from resampling the questions. *By position*: a guess by the position of a step alone, "
    "which sees neither image nor text."
)
_NOT_BETTER = (
    "**On {benchmark} this model is not shown to beat the position of a step alone** (AUC): nothing shows "
    "that it has learned to judge steps."
)
_METRICS = {"overall_f1": "macro-F1 by source", "pooled_macro_f1": "macro-F1 pooled", "auc": "AUC"}


def add_to_page(model: str, numbers: dict[str, Any]) -> str:
    """Write the results into the README.md of a local folder that ``bisieve train`` published.

    Nothing is written for a model of the hub or of a store, for one that bisieve did not train, and for
    results that a model's page should not show: of the paper's prompt, or with a threshold that was tuned on
    the test.

    Args:
        model: Folder or URL of the model, as it was evaluated.
        numbers: Content of ``metrics.json``.

    Returns:
        A line for the user; empty if there was nothing to do.
    """
    own = numbers["trained"] and numbers["prompt"] == TRAINING and numbers["threshold_on"] != TEST
    page = join(model, README)
    if not own or not model.startswith("file://") or not storage.exists(page):
        return ""
    try:
        text = with_evaluation(storage.read_bytes(page).decode(), numbers)
        if text is None:
            return ""
        storage.write_bytes(page, text.encode())
    except (StorageError, ValueError, yaml.YAMLError) as error:
        return f"note: {README} of the model is unchanged: {one_line(error)}"
    return f"model card: {page}"


def with_evaluation(readme: str, numbers: dict[str, Any]) -> str | None:
    """Return ``readme`` with the results of an evaluation, which replace older ones on the same benchmark.

    Args:
        readme: A page of `model_card.model_card`, maybe changed by its owner.
        numbers: Content of ``metrics.json``.

    Returns:
        The new page, or None if ``readme`` has no place for it.
    """
    if not re.search(f"{RESULTS}.*{END_OF_RESULTS}", readme, re.DOTALL):
        return None
    hub: Any = import_module("huggingface_hub")
    page = hub.ModelCard(readme)
    new = _results(numbers)
    same = (new[0].dataset_name, new[0].dataset_revision)
    older = page.data.eval_results or []
    page.data.eval_results = [
        *(each for each in older if (each.dataset_name, each.dataset_revision) != same), *new
    ]  # fmt: skip
    page.data.model_name = page.data.model_name or "model"  # results have to be of a named model
    page.text = re.sub(
        f"{RESULTS}.*{END_OF_RESULTS}",
        lambda _: results_section(page.data.eval_results),
        page.text,
        flags=re.DOTALL,
    )
    return str(page)


def _results(numbers: dict[str, Any]) -> list[Any]:
    hub: Any = import_module("huggingface_hub")
    benchmark = numbers["benchmark"].rstrip("/").rpartition("/")[2]
    how = {
        "confidence": numbers["confidence"], "threshold": numbers["threshold"],
        "threshold_on": numbers["threshold_on"], "steps": numbers["steps"],
    }  # fmt: skip
    by_position = numbers["position_baseline"]
    return [
        hub.EvalResult(
            task_type="image-text-to-text", task_name="judging steps", dataset_type="json",
            dataset_name=benchmark, dataset_revision=numbers["benchmark_sha256"][:16],
            metric_type=name, metric_name=title, metric_value=round(numbers[name], 4),
            metric_args={
                **_interval(numbers["intervals"][name] or (None, None)), **how,
                **_position(by_position[name], by_position["differences"][name]["interval"]),
            },
        )
        for name, title in _METRICS.items()
        if numbers.get(name) is not None
    ]  # fmt: skip


def _interval(ends: Sequence[float | None]) -> dict[str, float]:
    """Return the ends that are known; a header has no nulls."""
    return {name: round(end, 4) for name, end in zip(("low", "high"), ends, strict=True) if end is not None}


def _position(value: float | None, above: Sequence[float] | None) -> dict[str, float | bool]:
    """Return what the position of a step alone gives, and whether the model is shown to be above it."""
    found: dict[str, float | bool] = {} if value is None else {"by_position": round(value, 4)}
    return found if above is None else {**found, "above_position": bool(above[0] > 0)}


def results_section(results: Sequence[Any]) -> str:
    """Return the section of a page about ``results``, at least one EvalResult, between two comments."""
    rows = [
        f"| {each.dataset_name} ({each.dataset_revision}) | {each.metric_name} | {each.metric_value:.4f} | "
        f"{_between(each.metric_args)} | {_by_position(each.metric_args)} | "
        f"{each.metric_args['steps']:,} | {each.metric_args['threshold']:.4f} |"
        for each in results
    ]
    percent = f"{results[0].metric_args['confidence']:.0%}"
    head = (
        f"| benchmark (sha256) | metric | value | {percent} interval | by position | judged steps | "
        "threshold |"
    )
    lines = [head, "|---|---|---|---|---|---|---|", *rows, "", _ABOUT]
    for each in results:
        if each.metric_type == "auc" and each.metric_args.get("above_position") is False:
            lines += ["", _NOT_BETTER.format(benchmark=each.dataset_name)]
    return "\n".join([RESULTS, *lines, END_OF_RESULTS])


def _between(known: dict[str, Any]) -> str:
    return f"{known['low']:.4f} to {known['high']:.4f}" if {"low", "high"} <= known.keys() else "unknown"


def _by_position(known: dict[str, Any]) -> str:
    return f"{known['by_position']:.4f}" if "by_position" in known else "unknown"
