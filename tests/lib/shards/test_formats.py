"""Every form of a corpus gives the same rollouts; forms and layouts may be mixed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import forms, reference

from bisieve.cli.main import main
from bisieve.errors import CorpusError, IndexUnusableError
from bisieve.index.reader import indexed_layouts, open_index
from bisieve.index.selection import read_selection
from bisieve.io.storage import write_bytes
from bisieve.pipeline import run as job
from bisieve.shards.fetch import fetch_rollouts
from bisieve.tools.plain_records import plain_lines
from ray_train.config import TrainConfig
from ray_train.training.plan import chosen_selection

SIZES = {"a": 70, "b_lists": 12}
COLUMNS = [
    "source", "rank", "rollout_id", "question_id", "bis", "positive_fraction", "reliability", "num_steps",
    "num_positive", "scores", "mc_correct", "mc_total",
]  # fmt: skip


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, list[dict[str, Any]]]:
    """The records of a corpus by source; they lie in the folder ``plain``, too."""
    reference.write_random_corpus(tmp_path / "plain", seed=9, sizes=SIZES)
    records = forms.read_records(tmp_path / "plain")
    for source, of_it in records.items():
        (tmp_path / "plain" / f"{source}.jsonl").write_bytes(forms.as_lines(of_it))
    return records


def table(index: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(index / file.path) for file in open_index(str(index)).files).select(
        COLUMNS
    )


def export(index: Path, output: Path, *more: str) -> bytes:
    ask = ["export", "--index", str(index), "--fraction", "0.3", "--output", str(output), *more]
    assert main(ask) == 0
    return output.read_bytes() if output.is_file() else b""


@pytest.mark.parametrize("form", [*forms.ROLLOUTS[1:], *forms.STEPS])
def test_every_form_is_ranked_and_exported_as_plain_lines(
    score: Callable[..., Any], plain: dict[str, Any], tmp_path: Path, form: str
) -> None:
    for source, records in plain.items():
        forms.write_form(tmp_path / "corpus" / source, form, records)
    score(tmp_path / "plain", tmp_path / "one")
    score(tmp_path / "corpus", tmp_path / "two")
    assert table(tmp_path / "one").equals(table(tmp_path / "two"))
    assert export(tmp_path / "two", tmp_path / "out") == reference.select(tmp_path / "plain", 0.3, 0.05)


@pytest.mark.parametrize("sniffed_at_once", [256, 4], ids=["told here", "told by Spark"])
def test_forms_and_layouts_are_mixed_in_one_run(
    score: Callable[..., Any],
    plain: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sniffed_at_once: int,
) -> None:
    monkeypatch.setattr(job, "SHARDS_A_TASK", sniffed_at_once)
    # A file a form under the same stem: together they are the source; what was one shard lies in ten.
    for source, records in plain.items():
        all_forms = [*forms.ROLLOUTS, *forms.STEPS]
        for number, form in enumerate(all_forms):
            forms.write_form(
                tmp_path / "corpus" / str(number) / source, form, records[number :: len(all_forms)]
            )
    score(tmp_path / "plain", tmp_path / "one", ties="hash")
    told: dict[str, Any] = {}
    score(
        tmp_path / "corpus", tmp_path / "two",
        lambda event, text="", **about: told.update({event: {"text": text, **about}}), ties="hash",
    )  # fmt: skip
    assert told["merged"]["stems"] == ["a", "b_lists"]
    assert "use --source-from folder or --source-field NAME to keep them separate" in told["merged"]["text"]
    assert table(tmp_path / "one").equals(table(tmp_path / "two"))
    layouts = list(indexed_layouts(open_index(str(tmp_path / "two"))).values())
    assert layouts == ["rollouts"] * 16 + ["steps"] * 4
    export(tmp_path / "one", tmp_path / "one.jsonl")
    export(tmp_path / "two", tmp_path / "two.jsonl")
    one, two = (sorted((tmp_path / name).read_bytes().split(b"\n")) for name in ("one.jsonl", "two.jsonl"))
    assert one == two
    export(tmp_path / "two", tmp_path / "cut", "--format", "records")
    found = sorted(str(path.relative_to(tmp_path / "cut")) for path in (tmp_path / "cut").rglob("*.jsonl"))
    selection = read_selection(open_index(str(tmp_path / "two")), 0.3)
    kept = {
        (selection.shards.layouts[row["spans"][0]["shard"]], row["source"])
        for row in selection.rows.to_pylist()
    }
    assert found == sorted(f"{layout}/{source}.jsonl" for layout, source in kept)
    assert {layout for layout, _ in kept} == {"rollouts", "steps"}
    again, _ = score(tmp_path / "cut", tmp_path / "again", ties="hash")
    assert again.rollouts_by_source == {"a": 21, "b_lists": 3}
    ids = [set(table(tmp_path / name)["rollout_id"].to_pylist()) for name in ("two", "again")]
    assert ids[1] < ids[0]


@pytest.mark.parametrize("form", ["nested.parquet", "flat.parquet", "lists.parquet"])
def test_rows_without_an_id_get_one_that_only_their_content_decides(
    score: Callable[..., Any], rollout: Callable[..., Any], tmp_path: Path, form: str
) -> None:
    records = [
        rollout([1.0, 0.5]),
        rollout([0.5, 1.0]),
        rollout([1.0, 0.5]),
        rollout([1.0, 0.5], question="?"),
    ]
    forms.write_form(tmp_path / "corpus/a", form, records, group=2)
    score(tmp_path / "corpus", tmp_path / "index", strategy="all")
    first, second, third, fourth = table(tmp_path / "index")["rollout_id"].to_pylist()
    assert first == third
    assert len({first, second, fourth}) == 3
    assert first == "abf3ad231690bb0bec8e338849610f0e"


def test_exported_rows_keep_their_ids_and_need_no_options(
    score: Callable[..., Any], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    records = [rollout([number / 8, 1.0], answer="x") for number in range(9)]
    theirs = [
        {"prompt" if name == "question" else name: value for name, value in record.items()}
        for record in records
    ]
    forms.write_form(tmp_path / "corpus/a", "nested.parquet", theirs, group=4)
    forms.write_form(tmp_path / "corpus/b", "jsonl", theirs)
    options = {"fields": {"question": "prompt"}, "image_prefixes": {"": "images/", "a.": "all/a."}}
    score(tmp_path / "corpus", tmp_path / "index", **options)
    export(tmp_path / "index", tmp_path / "cut", "--format", "records", "--fraction", "1")
    lines = (tmp_path / "cut/a.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["image"] for line in lines] == ["all/a.png"] * 9
    assert json.loads((tmp_path / "cut/b.jsonl").read_bytes().splitlines()[0])["answer"] == "x"
    score(tmp_path / "cut", tmp_path / "again")
    kept = ["source", "rank", "rollout_id", "scores", "mc_correct"]
    assert table(tmp_path / "again").select(kept).equals(table(tmp_path / "index").select(kept))


def test_training_refuses_rows_and_names_the_way_around(
    score: Callable[..., Any], plain: dict[str, Any], tmp_path: Path
) -> None:
    forms.write_form(tmp_path / "corpus/a", "nested.parquet", plain["a"])
    score(tmp_path / "corpus", tmp_path / "index")
    config = TrainConfig(index=str(tmp_path / "index"), image_root="i", backbone="b", output="o")
    with pytest.raises(IndexUnusableError, match=r"1 compressed or Parquet ones, .*--format records"):
        chosen_selection(config)


@pytest.mark.parametrize("layout", ["auto", "rollouts"])
@pytest.mark.parametrize("content", [b"", b"{}\n"])
def test_a_parquet_shard_that_is_none_is_one_line(
    score: Callable[..., Any], tmp_path: Path, content: bytes, layout: str
) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(CorpusError, match=r"a Parquet file at .*a\.parquet") as caught:
        score(tmp_path / "a.parquet", tmp_path / "index", layout=layout)
    assert "\n" not in str(caught.value)


def test_a_row_that_was_rewritten_is_not_taken_for_the_one_that_was_ranked(
    score: Callable[..., Any], rollout: Callable[..., Any], tmp_path: Path
) -> None:
    forms.write_form(tmp_path / "corpus/a", "nested.parquet", [rollout([0.5]), rollout([1.0])])
    score(tmp_path / "corpus", tmp_path / "index")
    selection = read_selection(open_index(str(tmp_path / "index")), 1.0)
    forms.write_form(tmp_path / "corpus/a", "nested.parquet", [rollout([0.5])])
    for fetch in (fetch_rollouts, plain_lines):
        with pytest.raises(IndexUnusableError, match="found other content;"):
            fetch(selection.rows, selection.shards)


@pytest.mark.parametrize("form", ["flat.parquet", "steps.parquet", "jsonl.zst"])
def test_every_form_is_read_from_s3(
    score: Callable[..., Any], plain: dict[str, Any], s3: str, tmp_path: Path, form: str
) -> None:
    for source, records in plain.items():
        path = forms.write_form(tmp_path / "corpus" / source, form, records)
        write_bytes(f"{s3}/formats/{form}/{path.name}", path.read_bytes())
    score(f"{s3}/formats/{form}", tmp_path / "index")
    assert export(tmp_path / "index", tmp_path / "out") == reference.select(tmp_path / "plain", 0.3, 0.05)
