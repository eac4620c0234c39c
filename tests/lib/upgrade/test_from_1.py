"""The forms that manifests of format 1 had before it ended."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from bisieve.upgrade.draft import Draft
from bisieve.upgrade.from_1 import upgraded


def fields(folder: Path, **parameters: Any) -> dict[str, Any]:
    """A manifest of three rollouts of two sources, ranked over all."""
    draft = Draft(f"file://{folder}", "f" * 64)
    rows = pa.table({"source": ["a", "a", "b"], "rank": [1, 3, 2], "bis": [0.3, 0.1, 0.2]})
    shards = pa.table({"url": ["file:///a"], "size": [1], "etag": ["1"], "rollouts": [3], "rejected": [0]})
    made = {
        "parameters": {"alpha": 0.05, "layout": "rollouts", "source_field": "set", **parameters},
        "sources": [{"source": "a", "rollouts": 2}, {"source": "b", "rollouts": 1}],
        "shards": draft.write("shards", 1, shards),
        "files": [draft.write("part", 1, rows)],
    }
    draft.save()
    return made


def test_the_first_ones_ranked_by_bis_and_did_not_know_where_cuts_end(tmp_path: Path) -> None:
    old = fields(tmp_path, scope="global", tie_seed=7)
    new = upgraded(old, Draft(f"file://{tmp_path}", "f" * 64))
    assert new["parameters"] == {
        "alpha": 0.05, "scope": "global", "seed": 7, "strategy": "bis",
        "reading": {
            "layout": "rollouts", "source_from": "stem", "source_field": "set", "fields": {},
            "image_prefixes": {},
        },
    }  # fmt: skip
    ends = [
        (score["fraction"], score["source"], score["rollouts"], score["bis"]) for score in new["cut_scores"]
    ]
    assert ends == [(fraction, None, 1, 0.3) for fraction in (0.05, 0.1, 0.25, 0.5)]
    by_source = upgraded(
        old | {"parameters": old["parameters"] | {"scope": "source"}}, Draft(f"file://{tmp_path}", "f" * 64)
    )
    assert {score["source"] for score in by_source["cut_scores"]} == {"a"}  # of "b" none has rank 1


def test_the_last_ones_say_both_and_are_believed(tmp_path: Path) -> None:
    score = {"fraction": 0.5, "source": "a", "rollouts": 1, "bis": 0.3}
    old = fields(tmp_path, scope="source", seed=3, strategy="mixed") | {"cut_scores": [score]}
    new = upgraded(old, Draft(f"file://{tmp_path}", "f" * 64))
    assert (new["parameters"]["seed"], new["parameters"]["strategy"]) == (3, "mixed")
    assert new["cut_scores"] == [score]
