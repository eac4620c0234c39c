"""The steps of a rollout where other tools keep them in lists, one value a step, in JSON.

    {"step": [...], "score": [...]}                        side by side in the record, as TRL does    ─┐
    {"steps_with_score": {"step": [...], "score": [...]}}  as Hugging Face's datasets write structs  ─┤
                                                    {"steps_with_score": [{"step", "score"}, ...]}  ◀─┘

`rows` does the same for Parquet.
"""

import math
from typing import Any

from bisieve.reading import STEP_FIELDS, STEPS

Record = dict[str, Any]


def joined(record: Record) -> Record:
    """Return ``record``, whose fields have the names that they have here, with one list of steps.

    As in Parquet, a list of scores whose length is not that of the steps makes each of them a bad one, and
    such a list of counts is left out.  A record without lists of steps is returned as it is.
    """
    lists = record.get(STEPS, record)
    if not isinstance(lists, dict) or not isinstance(lists.get("step"), list):
        return record
    columns = {name: _beside(lists[name], len(lists["step"]), name) for name in STEP_FIELDS if name in lists}
    steps = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    rest = record if STEPS in record else {key: record[key] for key in record if key not in STEP_FIELDS}
    return rest | {STEPS: steps}


def _beside(values: Any, num_steps: int, name: str) -> list[Any]:
    """Return ``values``, one a step, or what stands for them where they are no such list."""
    if isinstance(values, list) and len(values) == num_steps:
        return values
    return [math.nan if name == "score" and values is not None else None] * num_steps
