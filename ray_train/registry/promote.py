"""Promote a model: move a pointer to it unless its lower bound is below that of the current model.

A pointer is a JSON file. It also stores the metrics of its model, since the files of an evaluation may be
overwritten later. It is replaced by compare-and-swap (`bisieve.io.conditional`).

evaluation ─▶ candidate ─┐
                         ├─▶ candidate's bound ≥ current's bound? ─▶ new pointer
pointer ───▶ current ────┘
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bisieve.errors import TrainingError
from bisieve.io import storage
from bisieve.io.conditional import read_pointer, replace_pointer
from bisieve.io.urls import canonical, join
from ray_train.choices import CALIBRATION, FIXED, PROMOTION_METRICS, TRAINING
from ray_train.model.metadata import card_of
from ray_train.registry.files import METRICS

# Fields that must be equal in two evaluations to compare them: same steps and judgements, in the same halves.
MEASURED_ON = ("benchmark_sha256", "seed", "solutions", "steps", "calibration_steps", "confidence")
# Must be equal as well. These are the values of evaluations made before the options existed.
PROTOCOL = {"prompt": TRAINING, "threshold_on": CALIBRATION}
_NOT_OF_POINTERS = "beats_position"
_NO_BETTER = "; warning: its AUC is not shown to be above that of the position of a step alone"


@dataclass(frozen=True)
class EvaluatedModel:
    """A model with the results of its evaluation."""

    model: str  # as it was evaluated: a canonical URL or a hub id
    metrics: str  # URL of the evaluation's ``metrics.json``
    run: str | None  # None: a model that bisieve did not train
    values: dict[str, float | None]  # by metric
    bounds: dict[str, float | None]  # lower confidence bounds, by metric
    benchmark: str
    measured_on: dict[str, Any]  # values of the fields in MEASURED_ON and PROTOCOL
    # Whether its AUC is shown to be above that of the position of a step alone; no part of a pointer.
    beats_position: bool | None = None

    @property
    def paper_settings(self) -> str:
        """Return the settings that follow the paper's code instead of bisieve's protocol; "" if none does."""
        others = {name: self.measured_on[name] for name in PROTOCOL}
        allowed = {name: (own, FIXED) for name, own in PROTOCOL.items()}
        return ", ".join(f"{name} {value}" for name, value in others.items() if value not in allowed[name])

    def number(self, metric: str) -> tuple[float, float]:
        """Return the value of ``metric`` and its lower bound.

        Raises:
            TrainingError: One of them is missing or is not a finite number.
        """
        value, bound = self.values.get(metric), self.bounds.get(metric)
        if value is None or bound is None:
            raise TrainingError(
                f"{metric} and its lower bound in {self.metrics}", "none: one kind of step is too rare",
                f"give another --metric: {', '.join(PROMOTION_METRICS)}",
            )  # fmt: skip
        # Python's JSON accepts NaN, and a comparison with NaN is always false.
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in (value, bound)):
            raise TrainingError(
                f"numbers for {metric} and its lower bound in {self.metrics}", f"{value} and {bound}",
                "run bisieve evaluate again",
            )  # fmt: skip
        return value, bound

    def pointer(self, metric: str) -> bytes:
        """Return the content of a pointer that names this model as the current one, as JSON.

        Raises:
            TrainingError: The value of ``metric`` or its bound is missing or is not a finite number.
        """
        value, bound = self.number(metric)
        chosen = {"metric": metric, "value": value, "bound": bound}
        fields = {name: value for name, value in asdict(self).items() if name != _NOT_OF_POINTERS}
        named = {name: fields.pop(name) for name in ("model", "metrics", "run")}
        return json.dumps({**named, **chosen, **fields}, indent=1, ensure_ascii=False).encode() + b"\n"


def require_evaluation(url: str) -> None:
    """Check that there is an evaluation.

    Args:
        url: URL of its ``metrics.json``.

    Raises:
        StorageError: There is none.
    """
    storage.require(url, f"an evaluation ({METRICS})", "make one with bisieve evaluate")


def evaluated(metrics: str) -> EvaluatedModel:
    """Read the result of an evaluation.

    Args:
        metrics: URL of the evaluation's folder or of its ``metrics.json``.

    Raises:
        TrainingError: The file is not one of ``bisieve evaluate``, or of a version without lower bounds.
        StorageError: The file cannot be read.
    """
    metrics = canonical(metrics)
    url = metrics if metrics.endswith(".json") else join(metrics, METRICS)
    hint = "check --metrics, or run bisieve evaluate again"
    require_evaluation(url)

    def make(found: dict[str, Any]) -> EvaluatedModel:
        return EvaluatedModel(
            found["model"], url, found["run"],
            {name: found[name] for name in PROMOTION_METRICS},
            {name: found["lower_bounds"][name] for name in PROMOTION_METRICS},
            found["benchmark"], {**{name: found[name] for name in MEASURED_ON},
                                 **{name: found.get(name, own) for name, own in PROTOCOL.items()}},
            _beats_position(found.get("position_baseline")),
        )  # fmt: skip

    return _read(
        storage.read_bytes(url), make, f"the metrics of bisieve evaluate, with bounds, at {url}", hint
    )


def pointed_at(data: bytes, url: str) -> EvaluatedModel:
    """Return the current model from the content of the pointer at ``url``.

    Raises:
        TrainingError: The content is not a pointer of ``bisieve promote``.
    """

    def make(found: dict[str, Any]) -> EvaluatedModel:
        names = [name for name in EvaluatedModel.__dataclass_fields__ if name != _NOT_OF_POINTERS]
        fields = {name: found[name] for name in names}
        return EvaluatedModel(**{**fields, "measured_on": {**PROTOCOL, **fields["measured_on"]}})

    return _read(data, make, f"a pointer of bisieve promote at {url}", "give another --pointer, or remove it")


def _beats_position(baseline: dict[str, Any] | None) -> bool | None:
    """Return whether the interval of the difference in AUC is above 0; None if it is not known."""
    found = baseline and baseline["differences"]["auc"]["interval"]
    return bool(found[0] > 0) if found else None


def _read(
    data: bytes, make: Callable[[dict[str, Any]], EvaluatedModel], expected: str, hint: str
) -> EvaluatedModel:
    try:
        return make(json.loads(data))
    except KeyError as error:
        raise TrainingError(expected, f"one without {error.args[0]}", hint) from error
    except (ValueError, TypeError, AttributeError) as error:
        raise TrainingError(expected, "something else", hint) from error


def promote(
    model: str, metrics: str, pointer: str, metric: str = PROMOTION_METRICS[0], untrained: bool = False,
    paper_eval: bool = False,
) -> str:  # fmt: skip
    """Promote ``model`` if its lower bound is at least the current model's.

    If ``model`` is already the current one, but with another evaluation, the pointer gets the new numbers
    without a comparison.

    Args:
        model: URL or hub id, as it was evaluated.
        metrics: URL of its evaluation: the folder or the file.
        pointer: URL of the JSON file to replace.
        metric: One of `choices.PROMOTION_METRICS`.
        untrained: Allow a model that bisieve did not train.
        paper_eval: Allow an evaluation whose prompt or threshold is that of the paper's code.

    Returns:
        A line that says what was done and why, for the user.

    Raises:
        TrainingError: The evaluation is of another model or run, is not comparable with the current model's,
            lacks the metric, or must be allowed first.
        StorageError: A file cannot be read, or another process has replaced the pointer meanwhile.
    """
    found = read_pointer(canonical(pointer))
    candidate = evaluated(metrics)
    if candidate.run is None and not untrained:
        raise TrainingError(
            f"an evaluation of a model that bisieve train made, at {candidate.metrics}",
            f"one of {candidate.model}, which it did not make",
            "give --untrained to promote it nevertheless",
        )
    if (different := candidate.paper_settings) and not paper_eval:
        raise TrainingError(
            f"an evaluation with the model's own prompt and a threshold from other steps, at "
            f"{candidate.metrics}", f"{different}, as in the paper's code",
            "give --paper-eval to promote by it nevertheless",
        )  # fmt: skip
    _check_model(candidate, model)
    data, (value, bound) = candidate.pointer(metric), candidate.number(metric)
    described = f"{candidate.model} ({metric} {value:.4f}, lower bound {bound:.4f})"
    warning = _NO_BETTER if candidate.beats_position is False else ""
    if found.data is None:
        replace_pointer(found, data)
        return f"promoted: {described}, the first{warning}"
    current = pointed_at(found.data, found.url)
    if found.data == data:
        return f"unchanged: {described} is the current model"
    if (current.model, current.run) == (candidate.model, candidate.run):
        replace_pointer(found, data)
        return f"evaluated again: {described} stays the current model"
    _check_comparable(candidate, current)
    old_value, old_bound = current.number(metric)
    compared = f"the current {current.model} ({metric} {old_value:.4f}, lower bound {old_bound:.4f})"
    if bound < old_bound:
        return f"not promoted: {described}; it is worse than {compared}"
    replace_pointer(found, data)
    return f"promoted: {described}; it is not worse than {compared}{warning}"


def _check_model(candidate: EvaluatedModel, model: str) -> None:
    """Check that the evaluation is of ``model``, and of the run that it holds now.

    Raises:
        TrainingError: It is of another model or run.
    """
    if candidate.model not in (model, canonical(model)):
        raise TrainingError(
            f"an evaluation of {model}", f"one of {candidate.model} at {candidate.metrics}",
            "check --model and --metrics",
        )  # fmt: skip
    card = card_of(candidate.model)
    if (run := card and card["run"]) != candidate.run:
        raise TrainingError(
            f"the run {candidate.run}, which was evaluated, at {candidate.model}",
            str(run or "no model of bisieve train"), "run bisieve evaluate again",
        )  # fmt: skip


def _check_comparable(candidate: EvaluatedModel, current: EvaluatedModel) -> None:
    for name in (*MEASURED_ON, *PROTOCOL):
        new, old = candidate.measured_on[name], current.measured_on[name]
        if new != old:
            raise TrainingError(
                f"{name} {old}, as of the evaluation of the current model, on {current.benchmark}",
                f"{new} in {candidate.metrics}",
                f"evaluate {current.model} with the same settings and promote it again; then promote "
                "this model",
            )
