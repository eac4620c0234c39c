"""Format 1 → 2: how records are read has a place of its own, and every shard its own layout.

A shard was plain JSONL, all were of the one layout that the parameters named, and the first manifests
of format 1 knew neither strategies nor where cuts end.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from bisieve.fraction import cut_limits
from bisieve.upgrade.draft import Draft, Fields

_FRACTIONS = (0.05, 0.10, 0.25, 0.50)


def upgraded(fields: Fields, draft: Draft) -> Fields:
    """The fields of a manifest of format 1 as those of one of format 2."""
    parameters = {"strategy": "bis", **fields["parameters"]}
    layout = parameters.pop("layout")
    if "tie_seed" in parameters:
        parameters["seed"] = parameters.pop("tie_seed")
    reading = {
        "layout": layout,
        "source_from": "stem",
        "source_field": parameters.pop("source_field"),
        "fields": {},
        "image_prefixes": {},
    }
    shards = draft.read(fields["shards"])
    layouts = pa.array([layout] * shards.num_rows, pa.string())
    with_layouts = shards.add_column(shards.column_names.index("etag") + 1, "layout", layouts)
    cut_scores = fields["cut_scores"] if "cut_scores" in fields else _cut_scores(fields, draft)
    return {
        **fields,
        "parameters": {**parameters, "reading": reading},
        "shards": draft.write("shards", 2, with_layouts),
        "cut_scores": cut_scores,
    }


def _cut_scores(fields: Fields, draft: Draft) -> list[dict[str, Any]]:
    scores = [score for file in fields["files"] for score in _ends(fields, draft.read_columns(file, _ENDS))]
    return sorted(scores, key=lambda score: (score["source"] or "", score["fraction"]))


_ENDS = ["source", "rank", "bis"]


def _ends(fields: Fields, rows: pa.Table) -> Iterator[dict[str, Any]]:
    """Where cuts end among ``rows``; with scope=global there is one for all sources, which are None."""
    scope = fields["parameters"]["scope"]
    rollouts = {source["source"]: source["rollouts"] for source in fields["sources"]}
    source = rows["source"].combine_chunks().dictionary_encode()
    names, rank = source.dictionary.to_pylist(), rows["rank"].to_numpy()
    for fraction in _FRACTIONS:
        limits = cut_limits(rollouts, scope, fraction)
        limit = np.array([limits[name] for name in names], np.int64)[source.indices.to_numpy()]
        for row in np.flatnonzero(rank == limit).tolist():
            yield {
                "fraction": fraction,
                "source": source[row].as_py() if scope == "source" else None,
                "rollouts": int(limit[row]),
                "bis": rows["bis"][row].as_py(),
            }
