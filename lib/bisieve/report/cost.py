"""Estimate the tokens and GPU hours of training on a corpus and on a selection, from the text of examples."""

from dataclasses import dataclass

from bisieve.report.aggregates import Counts
from bisieve.report.examples import Examples

# A model of this size on this hardware, to give hours an order of magnitude; `train --dry-run` computes them.
MODEL_PARAMETERS = 8e9
FLOPS_PER_SECOND = 4e14  # what an H100 does of its 9.9e14 of dense bf16
TOKENS_OF_AN_IMAGE = 1280  # five tiles of 448 x 448 pixels, of 256 tokens each
TOKENS_OF_A_STEP = 2  # the marker and the separator
BYTES_PER_TOKEN = 4.0  # of text


@dataclass(frozen=True)
class Cost:
    """Estimated cost of training on some rollouts, one epoch, without packing."""

    steps: int
    tokens: float | None  # None: no text could be read
    gpu_hours: float | None


def estimate_costs(counts: Counts, examples: Examples) -> dict[str, Cost]:
    """Return the costs of the corpus and of the selection, estimated from the text of the examples."""
    read = [each.rollout for each in examples.found if each.rollout]
    pairs = zip(("corpus", "selection"), counts.total("rollouts"), counts.total("steps"), strict=True)
    if not read:
        return {name: Cost(steps, None, None) for name, _, steps in pairs}
    of_steps = sum(len(step.encode()) for each in read for step in each.steps) / BYTES_PER_TOKEN
    of_a_step = of_steps / sum(len(each.steps) for each in read) + TOKENS_OF_A_STEP
    questions = sum(len(each.question.encode()) for each in read) / BYTES_PER_TOKEN
    images = sum(len(each.images) for each in read) * TOKENS_OF_AN_IMAGE
    of_a_prompt = (questions + images) / len(read)
    costs = {}
    for name, rollouts, steps in pairs:
        tokens = rollouts * of_a_prompt + steps * of_a_step
        costs[name] = Cost(steps, tokens, 6 * MODEL_PARAMETERS * tokens / FLOPS_PER_SECOND / 3600)
    return costs
