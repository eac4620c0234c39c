"""What a run is planned to train on, and which run it is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.broken_images import BROKEN
from support.small_corpus import Corpus

from bisieve.errors import ImageError, IndexUnusableError
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from ray_train.choices import Workers
from ray_train.config import TrainConfig
from ray_train.data.token_estimate import RolloutSize, keep_sizes
from ray_train.training.plan import chosen_index, chosen_selection, header_sizes, plan_run

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
    assert [chosen_selection(one).rows.num_rows for one in (pinned, config)] == [3, 5]
    with pytest.raises(IndexUnusableError, match="bisieve versions lists them"):
        chosen_index(replace(config, index_version="0000"))


def test_a_run_selects_by_other_options_than_its_index_without_changing_it(
    score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    shard = write_jsonl("a.jsonl", [rollout(scores) for scores in ([1.0, 0.0], [0.0], [1.0], [0.5, 0.0])])
    score(shard, tmp_path / "index")
    config = TrainConfig(
        index=str(tmp_path / "index"), image_root="i", backbone="b", output="o", fraction=0.5
    )

    def chosen(**options: Any) -> list[list[float]]:
        return chosen_selection(replace(config, **options)).rows["scores"].to_pylist()

    assert chosen() == [[1.0, 0.0], [0.5, 0.0]]
    assert chosen(strategy="low_mc") == [[0.0], [0.5, 0.0]]
    assert chosen(strategy="low_mc", all_negative="drop") == [[0.5, 0.0], [1.0, 0.0]]
    assert chosen(threshold="0.5", fraction=0.25) == [[1.0, 0.0]]
    assert chosen(alpha="0.05") == chosen()
    other = chosen_selection(replace(config, alpha="0.5"))
    assert other.fingerprint != chosen_selection(config).fingerprint
    assert chosen_index(config).manifest.parameters.alpha == 0.05


def test_headers_are_checked_where_that_was_asked_for(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 6)).save(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:20])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "bomb.png").write_bytes(BROKEN["bomb"][0])
    output = str(tmp_path / "output")
    config = TrainConfig(
        index="i",
        image_root=str(tmp_path),
        backbone="b",
        output=output,
        check_images=True,
        workers=Workers(1, 1),
    )
    names = ("good.png", "bomb.png", "cut.png", "text.jpg", "missing.png")
    rollouts = [RolloutSize((name,), 1, 1, 1) for name in names]
    found = r"found 3 of 5 without: bomb\.png, cut\.png, text\.jpg; write .* with --skip-broken-images 3"
    with pytest.raises(ImageError, match=rf"of at most [\d,]+ pixels below {tmp_path}; {found}"):
        header_sizes(rollouts, config)
    with pytest.raises(ImageError, match=f"pixels below {tmp_path}, all but 2; {found}"):
        header_sizes(rollouts, replace(config, skip_broken_images=2))
    tolerated = header_sizes(rollouts, replace(config, skip_broken_images=3))
    assert [tolerated[name] for name in names] == [(8, 6), (65536, 1200), None, None, None]
    assert header_sizes(rollouts[:1], config) == {"good.png": (8, 6)}
    assert header_sizes(rollouts, replace(config, check_images=False)) == {}


def test_a_check_reads_the_headers_that_an_earlier_start_has_kept_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig(
        index="i",
        image_root=str(tmp_path),
        backbone="b",
        output=str(tmp_path / "output"),
        workers=Workers(2, 2),
    )
    keep_sizes(config.output, config.image_root, {"1.png": (8, 6)})
    (tmp_path / "1.png").write_text("no image any more")
    rollouts = [RolloutSize(("1.png",), 1, 1, 1)]
    assert header_sizes(rollouts, config) == {"1.png": (8, 6)}
    assert capsys.readouterr().out == ""
    with pytest.raises(ImageError, match=r"found 1 of 1 without: 1\.png"):
        header_sizes(rollouts, replace(config, check_images=True))
    assert capsys.readouterr().out == "images: reading the headers of 1\n"
