"""The options that would read records of other tools: their names for fields, found by what is there.

A name alone is not enough: ``steps`` may be steps with scores, their texts, or a number.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from bisieve.records.options import STEPS, ReadOptions

Record = Mapping[str, Any]

# What other tools call the fields.
_SYNONYMS = {
    "rollout_id": ("id", "uid", "sample_id", "solution_id"),
    "image": ("images", "image_path", "img", "image_file"),
    "question": ("prompt", "problem", "query", "instruction"),
    STEPS: ("steps_with_scores", "steps", "trace", "process"),
    "step_index": ("step_id", "step_idx", "step_number"),
    "step": ("completions", "steps", "completion", "text", "content"),
    "score": ("labels", "scores", "step_scores", "label", "rating", "value"),
}


def suggested_options(record: Record, reading: ReadOptions) -> str:
    """Return the options that would read records such as ``record``, beside those that were given.

    Args:
        record: A record as it is, or `sample_of` the columns of a table.
        reading: How records are read with the options that were given.

    Returns:
        As ``--field question=prompt --labels-as-scores``; "" where no steps show, or nothing is missing.
    """
    found: dict[str, str] = {}  # name here -> name there

    def find(ours: str, fields: Record, fits: Callable[[Any], bool]) -> Any:
        theirs = reading.names[ours]
        if theirs not in fields:
            free = [name for name in _SYNONYMS.get(ours, ()) if name not in found.values()]
            theirs = next((name for name in free if name in fields and fits(fields[name])), theirs)
            if theirs in fields:
                found[ours] = theirs
        return fields.get(theirs)

    steps = find(STEPS, record, _has_members)
    lists = {name: value[0] for name, value in record.items() if isinstance(value, list) and value}
    if steps is not None:
        fields = _members(steps)
    elif any(_is_text(lists.get(name)) for name in (reading.names["step"], *_SYNONYMS["step"])):
        fields = lists
    elif find("step_index", record, _is_number) is not None:
        find("rollout_id", record, lambda value: isinstance(value, str | int))
        fields = record
    else:
        return ""
    find("step", fields, _is_text)
    score = find("score", fields, _is_number)
    find("image", record, lambda value: isinstance(value, str | list | dict))
    if reading.names["question_orig"] not in record:
        find("question", record, _is_text)
    options = [f"--field {ours}={found[ours]}" for ours in _SYNONYMS if ours in found]
    if isinstance(score, bool) and not reading.labels_as_scores:
        options.append("--labels-as-scores")
    return " ".join(options)


def sample_of(kind: pa.DataType | pa.Schema) -> Any:
    """Return a value that stands for all of an Arrow type, or a record for all rows of a table."""
    if isinstance(kind, pa.Schema) or kinds.is_struct(kind):
        return {field.name: sample_of(field.type) for field in kind}
    if kinds.is_dictionary(kind):
        return sample_of(kind.value_type)
    if kinds.is_nested(kind):
        return [sample_of(kind.value_type)] if hasattr(kind, "value_type") else []
    if kinds.is_boolean(kind):
        return True
    number = kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind)
    return 1.0 if number else "text"


def merged(records: Sequence[Record]) -> dict[str, Any]:
    """Return one record that has each field of ``records`` with the first value that says something."""
    fields: dict[str, Any] = {}
    for record in records:
        fields |= {name: value for name, value in record.items() if fields.get(name) in (None, "", [], {})}
    return fields


def _has_members(value: Any) -> bool:
    return bool(_members(value))


def _members(steps: Any) -> Record:
    """Return what one step has, of a list of dicts or a dict of lists."""
    if isinstance(steps, dict):
        return {name: value[0] for name, value in steps.items() if isinstance(value, list) and value}
    return steps[0] if isinstance(steps, list) and steps and isinstance(steps[0], dict) else {}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
