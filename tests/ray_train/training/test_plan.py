"""What a run is planned to train on, and which run it is."""

from collections.abc import Callable
from pathlib import Path

from support.small_corpus import Corpus

from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from ray_train.config import TrainConfig
from ray_train.training.plan import plan_run

Settings = Callable[..., TrainConfig]


def test_rollouts_that_are_left_out_are_part_of_the_identity_and_of_the_lineage(
    settings: Settings, corpus: Corpus, tmp_path: Path
) -> None:
    rows = read_selection(open_index(corpus.index), 1.0).rows
    file = tmp_path / "exclude.txt"
    file.write_text("\n".join(rows["rollout_id"].to_pylist()[:3]))
    whole, less = plan_run(settings(fraction=1.0)), plan_run(settings(fraction=1.0, exclude=str(file)))
    assert less.selection.rows.num_rows == rows.num_rows - 3
    assert "exclude" not in whole.identity
    assert less.identity["exclude"] == less.selection.left_out.digest
    assert less.identity["selection"] != whole.identity["selection"]
    assert less.card("r")["config"]["exclude"] == str(file)
    file.write_text("")
    assert plan_run(settings(fraction=1.0, exclude=str(file))).identity == whole.identity
