"""The results of evaluations on the page (README.md) of a model.

    metrics.json ──▶ YAML header, which the hub reads ──▶ the section "Evaluation"

The section is written from the header, so that an evaluation on another benchmark adds rows, and the rest of
the page stays as its owner has it.
"""

import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

_START, _END = "<!-- evaluations, by bisieve -->", "<!-- end of evaluations -->"
_NONE = "This model has not been evaluated yet. `bisieve evaluate` on this folder fills this section."
_METRICS = {"overall_f1": "macro-F1 by source", "pooled_macro_f1": "macro-F1 pooled", "auc": "AUC"}


def with_evaluation(readme: str, numbers: dict[str, Any]) -> str | None:
    """Return ``readme`` with the results of an evaluation, which replace older ones on the same benchmark.

    Args:
        readme: A page of `model_card.model_card`, maybe changed by its owner.
        numbers: Content of ``metrics.json``.

    Returns:
        The new page, or None if ``readme`` has no place for it.
    """
    if not re.search(f"{_START}.*{_END}", readme, re.DOTALL):
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
        f"{_START}.*{_END}", lambda _: results_section(page.data.eval_results), page.text, flags=re.DOTALL
    )
    return str(page)


def _results(numbers: dict[str, Any]) -> list[Any]:
    hub: Any = import_module("huggingface_hub")
    benchmark = numbers["benchmark"].rstrip("/").rpartition("/")[2]
    how = {
        "confidence": numbers["confidence"], "threshold": numbers["threshold"],
        "threshold_on": numbers["threshold_on"], "steps": numbers["steps"],
    }  # fmt: skip
    return [
        hub.EvalResult(
            task_type="image-text-to-text", task_name="judging steps", dataset_type="json",
            dataset_name=benchmark, dataset_revision=numbers["benchmark_sha256"][:16],
            metric_type=name, metric_name=title, metric_value=round(numbers[name], 4),
            metric_args={**_interval(numbers["intervals"][name] or (None, None)), **how},
        )
        for name, title in _METRICS.items()
        if numbers.get(name) is not None
    ]  # fmt: skip


def results_section(results: Sequence[Any]) -> str:
    """Return the section of a page about ``results``, of the class EvalResult, between two comments."""
    if not results:
        return f"{_START}\n{_NONE}\n{_END}"
    rows = [
        f"| {each.dataset_name} ({each.dataset_revision}) | {each.metric_name} | {each.metric_value:.4f} | "
        f"{_between(each.metric_args)} | "
        f"{each.metric_args['steps']:,} | {each.metric_args['threshold']:.4f} |"
        for each in results
    ]
    percent = f"{results[0].metric_args['confidence']:.0%}"
    head = f"| benchmark (sha256) | metric | value | {percent} interval | judged steps | threshold |"
    lines = [head, "|---|---|---|---|---|---|", *rows]
    return "\n".join([_START, *lines, "", "Intervals come from resampling the questions.", _END])


def _interval(ends: Sequence[float | None]) -> dict[str, float]:
    """Return the ends that are known; a header has no nulls."""
    return {name: round(end, 4) for name, end in zip(("low", "high"), ends, strict=True) if end is not None}


def _between(known: dict[str, Any]) -> str:
    return f"{known['low']:.4f} to {known['high']:.4f}" if {"low", "high"} <= known.keys() else "unknown"
