"""Suggestions of options that would read records of other tools, for error messages.

Fields are matched by known synonyms and by the type of their values, because a name alone is not enough:
``steps`` may be steps with scores, their texts, or a number.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from bisieve.records.options import STEPS, ReadOptions

Record = Mapping[str, Any]

# bisieve's name -> names that other tools use.
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
    """Return the command-line options that are missing to read records such as ``record``.

    Args:
        record: A record as decoded from JSON, or `sample_of` the columns of a table.
        reading: The options that were given.

    Returns:
        Options such as ``--field question=prompt --labels-as-scores``; "" if no steps are recognised, or no
        option is missing.
    """
    found: dict[str, str] = {}  # bisieve's name -> name in the record

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
    """Return an example value of an Arrow type, or an example record of a schema."""
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
    """Return one record with all fields of ``records``, each with its first value that is not empty."""
    fields: dict[str, Any] = {}
    for record in records:
        fields |= {name: value for name, value in record.items() if fields.get(name) in (None, "", [], {})}
    return fields


def _has_members(value: Any) -> bool:
    return bool(_members(value))


def _members(steps: Any) -> Record:
    """Return the fields of the first step, from a list of dicts or a dict of lists."""
    if isinstance(steps, dict):
        return {name: value[0] for name, value in steps.items() if isinstance(value, list) and value}
    return steps[0] if isinstance(steps, list) and steps and isinstance(steps[0], dict) else {}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
