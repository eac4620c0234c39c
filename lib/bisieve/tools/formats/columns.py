"""The columns of an exported data set, in Arrow, as features of ``datasets``, and in words.

`SCHEMA` ─┬─ features ─────▶ metadata of the Parquet files
          ├─ card_features ▶ README.md
          └─ MEANINGS ─────▶ README.md, croissant.json
"""

from typing import Any

import pyarrow as pa

SCHEMA = pa.schema(
    [
        ("rollout_id", pa.string()),
        ("source", pa.string()),
        ("rank", pa.int64()),
        ("bis", pa.float64()),
        ("question", pa.string()),
        ("image", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
        ("step", pa.list_(pa.string())),
        ("score", pa.list_(pa.float64())),
        ("num_mc_correct", pa.list_(pa.int32())),
        ("num_mc_total", pa.list_(pa.int32())),
        ("label", pa.list_(pa.bool_())),
    ]
)

MEANINGS = {
    "rollout_id": "Id of the rollout: one solution of a question.",
    "source": "Name of the source that the rollout is from.",
    "rank": "Rank in the index, from 1.",
    "bis": "Balanced information score of the rollout.",
    "question": "Text of the question.",
    "image": "Images of the question, in order.",
    "step": "Steps of the solution, in order.",
    "score": "MC score of each step: the share of continuations from it that reach the right answer.",
    "num_mc_correct": "Number of right continuations from each step, if known.",
    "num_mc_total": "Number of continuations from each step, if known.",
    "label": "Whether the MC score of each step is above the threshold.",
}


def features() -> dict[str, Any]:
    """Return the features of `SCHEMA` as ``datasets`` writes them into a Parquet file."""
    return {column.name: _feature(column.type) for column in SCHEMA}


def card_features() -> list[dict[str, str]]:
    """Return the features of `SCHEMA` as the header of a data set's README.md has them."""
    found = []
    for column in SCHEMA:
        is_list = pa.types.is_list(column.type)
        kind = column.type.value_type if is_list else column.type
        found.append({"name": column.name, "list" if is_list else "dtype": dtype(kind)})
    return found


def dtype(kind: pa.DataType) -> str:
    """Return the name that ``datasets`` has for a type that is no list; "image" for a struct."""
    return "image" if pa.types.is_struct(kind) else {"double": "float64"}.get(str(kind), str(kind))


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):  # the name before version 4 of datasets; later ones read it as well
        return {"feature": _feature(kind.value_type), "_type": "Sequence"}
    return {"_type": "Image"} if pa.types.is_struct(kind) else {"dtype": dtype(kind), "_type": "Value"}
