"""What a run is made on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bisieve.errors import IndexUnusableError
from bisieve.index import open_index
from ray_train.config import TrainConfig
from ray_train.run.preflight import chosen_cut, chosen_index


def test_a_run_of_a_version_is_not_of_what_is_published_since(
    score: Callable[..., Any], indexed: Path, write_jsonl: Callable[..., Path], rollout: Callable[..., Any]
) -> None:
    config = TrainConfig(index=str(indexed), image_root="i", backbone="b", output="o", fraction=1)
    first = open_index(str(indexed)).fingerprint
    pinned = replace(config, index_version=first[:16])
    shard = indexed.parent / "indexed.jsonl"
    score([shard, write_jsonl("more.jsonl", [rollout([0.0, 1.0])] * 2)], indexed)
    assert chosen_index(config).fingerprint != first
    assert chosen_index(pinned).fingerprint == first
    assert [chosen_cut(one).rows.num_rows for one in (pinned, config)] == [3, 5]
    with pytest.raises(IndexUnusableError, match="bisieve versions lists them"):
        chosen_index(replace(config, index_version="0000"))
