"""Moves the pointer to a model that is not worse than the current one.

evaluation ─▶ candidate ─┐
                         ├─▶ bound ≥ bound? ─▶ pointer, replaced only as it was read
pointer ───▶ current ────┘
"""

from bisieve import storage
from bisieve.errors import TrainingError
from bisieve.pointer import read_pointer, replace_pointer
from ray_train.model.card import read_card
from ray_train.promotion.standing import CHOICES, MEASURED_ON, Standing, evaluated, pointed_at


def promote(model: str, metrics: str, pointer: str, metric: str = CHOICES[0], untrained: bool = False) -> str:
    """Promotes ``model`` if its lower bound is at least the current model's; returns what became of it.

    The current model with another evaluation brings its own numbers up to date.  `TrainingError` where the
    evaluation is of another model, or of other steps than the current one's; `StorageError` where somebody
    else has moved the pointer meanwhile.  A model that bisieve did not train is refused unless ``untrained``.
    """
    found = read_pointer(storage.canonical(pointer))
    candidate = evaluated(metrics)
    if candidate.run is None and not untrained:
        raise TrainingError(
            f"an evaluation of a model that bisieve train made, at {candidate.metrics}",
            f"one of {candidate.model}, which it did not make",
            "give --untrained to promote it nevertheless",
        )
    _check_model(candidate, model)
    data, (value, bound) = candidate.pointer(metric), candidate.number(metric)
    told = f"{candidate.model} ({metric} {value:.4f}, lower bound {bound:.4f})"
    if found.data is None:
        replace_pointer(found, data)
        return f"promoted: {told}, the first"
    current = pointed_at(found.data, found.url)
    if found.data == data:
        return f"unchanged: {told} is the current model"
    if (current.model, current.run) == (candidate.model, candidate.run):
        replace_pointer(found, data)
        return f"evaluated anew: {told} stays the current model"
    _check_comparable(candidate, current)
    old_value, old_bound = current.number(metric)
    compared = f"the current {current.model} ({metric} {old_value:.4f}, lower bound {old_bound:.4f})"
    if bound < old_bound:
        return f"not promoted: {told} is worse than {compared}"
    replace_pointer(found, data)
    return f"promoted: {told}, not worse than {compared}"


def _check_model(candidate: Standing, model: str) -> None:
    """That the evaluation is of ``model``, as it is now."""
    if candidate.model not in (model, storage.canonical(model)):
        raise TrainingError(
            f"an evaluation of {model}", f"one of {candidate.model} at {candidate.metrics}",
            "check --model and --metrics",
        )  # fmt: skip
    card = read_card(candidate.model)
    if (run := card and card["run"]) != candidate.run:
        raise TrainingError(
            f"the run {candidate.run}, which was evaluated, at {candidate.model}",
            str(run or "no model of bisieve train"), "run bisieve evaluate again",
        )  # fmt: skip


def _check_comparable(candidate: Standing, current: Standing) -> None:
    for name in MEASURED_ON:
        new, old = candidate.measured_on[name], current.measured_on[name]
        if new != old:
            raise TrainingError(
                f"{name} {old}, as of the evaluation of the current model, on {current.benchmark}",
                f"{new} in {candidate.metrics}",
                f"evaluate {current.model} as this one was, and promote it with that; then this one",
            )
