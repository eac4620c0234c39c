"""Move the pointer to a model that is not worse than the current one.

evaluation ─▶ candidate ─┐
                         ├─▶ bound ≥ bound? ─▶ pointer, replaced only as it was read
pointer ───▶ current ────┘
"""

from bisieve import storage
from bisieve.errors import TrainingError
from bisieve.pointer import read_pointer, replace_pointer
from ray_train.model.recognize import card_of
from ray_train.promotion.standing import CHOICES, MEASURED_ON, PROTOCOL, Standing, evaluated, pointed_at


def promote(
    model: str, metrics: str, pointer: str, metric: str = CHOICES[0], untrained: bool = False,
    paper_eval: bool = False,
) -> str:  # fmt: skip
    """Promote ``model`` if its lower bound is at least the current model's; return what became of it.

    The current model with another evaluation brings its own numbers up to date.

    Args:
        model: as it was evaluated.
        metrics: of its evaluation, the folder or the file.
        pointer: the JSON file to move.
        metric: one of `CHOICES`.
        untrained: allow a model that bisieve did not train.
        paper_eval: allow an evaluation whose prompt or threshold is that of the paper's code.

    Raises:
        TrainingError: the evaluation is of another model, of other steps than the current one's, or must be
            allowed.
        StorageError: somebody else has moved the pointer meanwhile.
    """
    found = read_pointer(storage.canonical(pointer))
    candidate = evaluated(metrics)
    if candidate.run is None and not untrained:
        raise TrainingError(
            f"an evaluation of a model that bisieve train made, at {candidate.metrics}",
            f"one of {candidate.model}, which it did not make",
            "give --untrained to promote it nevertheless",
        )
    if (different := candidate.as_the_papers_code) and not paper_eval:
        raise TrainingError(
            f"an evaluation with the model's own prompt and a threshold from other steps, at "
            f"{candidate.metrics}", f"{different}, as in the paper's code",
            "give --paper-eval to promote by it nevertheless",
        )  # fmt: skip
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
        return f"evaluated again: {told} stays the current model"
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
    card = card_of(candidate.model)
    if (run := card and card["run"]) != candidate.run:
        raise TrainingError(
            f"the run {candidate.run}, which was evaluated, at {candidate.model}",
            str(run or "no model of bisieve train"), "run bisieve evaluate again",
        )  # fmt: skip


def _check_comparable(candidate: Standing, current: Standing) -> None:
    for name in (*MEASURED_ON, *PROTOCOL):
        new, old = candidate.measured_on[name], current.measured_on[name]
        if new != old:
            raise TrainingError(
                f"{name} {old}, as of the evaluation of the current model, on {current.benchmark}",
                f"{new} in {candidate.metrics}",
                f"evaluate {current.model} as this one was, and promote it with that; then this one",
            )
