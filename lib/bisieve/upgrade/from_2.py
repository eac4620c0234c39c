"""Format 2 → 3: what grows with an index leaves the manifest for lists of sources and of files.

Rejects of format 3 name all records of their rollout.  Those of format 2 do not, and stay as they are: what
they leave out stands in the shards alone.
"""

from collections import Counter
from typing import Any

import pyarrow as pa

from bisieve.upgrade.draft import Draft, Fields

_COUNTS = ("rollouts", "steps", "mixed", "all_positive", "all_negative", "tie_block")
_CUT_SCORE = [("fraction", pa.float64()), ("rollouts", pa.int64()), ("bis", pa.float64())]
_SOURCES = pa.schema(
    [
        ("source", pa.string()),
        *((name, pa.int64()) for name in _COUNTS),
        ("rejected", pa.list_(pa.struct([("reason", pa.string()), ("records", pa.int64())]))),
        ("cut_scores", pa.list_(pa.struct(_CUT_SCORE))),
    ]
)
_FILES = pa.schema(
    [
        ("kind", pa.string()),
        ("path", pa.string()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
    ]
)
_KEPT = ("fingerprint", "parameters", "inputs", "examples", "shard_bytes", "shards", "software")


def upgraded(fields: Fields, draft: Draft) -> Fields:
    """The fields of a manifest of format 2 as those of one of format 3."""
    sources, files, rejects = (fields[name] for name in ("sources", "files", "rejects"))
    cut_scores: dict[str | None, list[dict[str, Any]]] = {}  # by source; None: over all
    for score in sorted(fields.get("cut_scores", []), key=lambda score: score["fraction"]):
        cut_scores.setdefault(score["source"], []).append({name: score[name] for name, _ in _CUT_SCORE})
    listed = [{"kind": "rollouts", **file} for file in files] + [
        {"kind": "rejects", **file} for file in rejects
    ]
    rejected: Counter[str] = Counter()
    for source in sources:
        rejected.update(source["rejected"])
    return {
        **{name: fields[name] for name in _KEPT},
        "rollouts": sum(source["rollouts"] for source in sources),
        "rejected": dict(sorted(rejected.items())),
        "file_bytes": sum(file["bytes"] for file in (*files, *rejects)),
        "sources": draft.write("sources", 3, _source_list(sources, cut_scores)),
        "files": draft.write("files", 3, pa.Table.from_pylist(listed, _FILES)),
        "cut_scores": cut_scores.get(None, []),
    }


def _source_list(sources: list[Fields], cut_scores: dict[str | None, list[dict[str, Any]]]) -> pa.Table:
    rows = [
        {
            **source,
            "rejected": [
                {"reason": reason, "records": records}
                for reason, records in sorted(source["rejected"].items())
            ],
            "cut_scores": cut_scores.get(source["source"], []),
        }
        for source in sources
    ]
    return pa.Table.from_pylist(rows, _SOURCES)
