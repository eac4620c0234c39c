"""Which prompts of a cut are kept for validation: all rollouts of a prompt, or none."""

from collections.abc import Collection

import numpy as np
import xxhash

from bisieve.cut import Cut
from bisieve.errors import TrainingError


def held_out_rows(cut: Cut, fraction: float, seed: int, left_out: Collection[int]) -> tuple[int, ...]:
    """The rows, not ``left_out``, of about ``fraction`` of the prompts; none where it is 0.

    A prompt is chosen by a hash of the seed and its ``question_id``: whatever else is in the cut, and
    whichever cut it is.  `TrainingError` where nothing is held out, or nothing is left to train on.
    """
    if fraction == 0:
        return ()
    questions = cut.rows["question_id"].combine_chunks().dictionary_encode()
    limit = int(fraction * 2**64)
    chosen = [
        xxhash.xxh3_64_intdigest(f"validation\n{seed}\n{question}".encode()) < limit
        for question in questions.dictionary.to_pylist()
    ]
    usable = np.ones(cut.rows.num_rows, np.bool_)
    usable[list(left_out)] = False
    held = np.array(chosen, np.bool_)[questions.indices.to_numpy()]
    rows = np.flatnonzero(held & usable)
    if len(rows) in (0, int(usable.sum())):
        raise TrainingError(
            f"prompts to train on, and {fraction:g} of them to hold out",
            f"{len(chosen)} in the cut, of which {sum(chosen)} would be held out",
            "give another --validation-fraction, or --seed",
        )
    return tuple(rows.tolist())
