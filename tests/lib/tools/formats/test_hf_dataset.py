"""A data set for the hub: opened by its schema and card, described for programs, and read back by bisieve."""

import base64
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from bisieve.cli.main import main
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from bisieve.tools.formats.hf_dataset import size_category
from bisieve.tools.formats.parquet_files import SCHEMA

Make = Callable[..., Any]


def picture(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (3, 2), grey).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def corpus(
    score: Make, write_jsonl: Make, rollout: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An index of three rollouts: one image by name, two by name, and one inside the record."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for grey, name in enumerate(("a.png", "b.png", "c.png")):
        (tmp_path / "images" / name).write_bytes(picture(grey))
    records = [
        rollout([1.0, 0.0], rollout_id="one"),
        rollout([0.5], rollout_id="two", image=["b.png", "c.png"]),
        rollout([0.25], rollout_id="inside", image=base64.b64encode(picture(9)).decode()),
    ]
    score(write_jsonl("made.jsonl", records), tmp_path / "index")
    return tmp_path


def export(*more: str) -> int:
    words = ["export", "--index", "index", "--fraction", "1", "--format", "hf-dataset", "--output", "best"]
    return main([*words, *more])


def test_the_hub_reads_images_labels_and_scores(corpus: Path) -> None:
    assert export("--image-root", "images") == 0
    table = pq.read_table(corpus / "best/data/train-00000.parquet")
    assert table.schema.equals(SCHEMA)
    rows = {row["rollout_id"]: row for row in table.to_pylist()}
    assert [image["bytes"] for image in rows["two"]["image"]] == [picture(1), picture(2)]
    assert [image["path"] for image in rows["two"]["image"]] == ["b.png", "c.png"]
    assert [image["bytes"] for image in rows["inside"]["image"]] == [picture(9)]
    assert rows["one"]["score"] == [1.0, 0.0]
    assert rows["one"]["label"] == [True, False]
    assert rows["one"]["num_mc_correct"] == [16, 0]
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"feature": {"_type": "Image"}, "_type": "Sequence"}
    assert list(features) == SCHEMA.names


def test_the_card_has_the_header_that_the_viewer_needs(corpus: Path) -> None:
    assert export("--image-root", "images") == 0
    _, header, page = (corpus / "best/README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(header)
    (files,) = card["configs"][0]["data_files"]
    assert [path.name for path in (corpus / "best").glob(files["path"])] == ["train-00000.parquet"]
    assert card["dataset_info"]["splits"][0]["num_examples"] == 3
    columns = {feature["name"]: feature for feature in card["dataset_info"]["features"]}
    assert columns["image"] == {"name": "image", "list": "image"}
    assert columns["bis"] == {"name": "bis", "dtype": "float64"}
    assert list(columns) == SCHEMA.names
    assert "| made | 3 | 4 |" in page
    assert "the best 100% of each source" in page


@pytest.mark.parametrize(
    ("rollouts", "category"), [(3, "n<1K"), (565_091, "100K<n<1M"), (56_000_000, "10M<n<100M")]
)
def test_the_size_has_the_hubs_name(rollouts: int, category: str) -> None:
    assert size_category(rollouts) == category


def test_croissant_describes_every_file_and_column(corpus: Path) -> None:
    assert export("--image-root", "images") == 0
    described = json.loads((corpus / "best/croissant.json").read_text())
    file, fileset = described["distribution"]
    data = (corpus / "best" / file["contentUrl"]).read_bytes()
    assert file["sha256"] == hashlib.sha256(data).hexdigest()
    assert fileset["includes"] == "data/train-*.parquet"
    (records,) = described["recordSet"]
    assert [field["source"]["extract"]["column"] for field in records["field"]] == SCHEMA.names
    assert [field["name"] for field in records["field"] if field.get("repeated")] == [
        "image", "step", "score", "num_mc_correct", "num_mc_total", "label",
    ]  # fmt: skip


def test_bisieve_reads_its_own_data_set(corpus: Path, score: Make) -> None:
    assert export("--image-root", "images") == 0
    again, _ = score(corpus / "best/data", corpus / "again", source_field="source")
    first = open_index(str(corpus / "index"))
    assert again.manifest.rejected == {}
    columns = ["rollout_id", "source", "rank", "bis", "scores", "mc_correct", "mc_total"]
    assert read_selection(again, 1.0).rows.select(columns) == read_selection(first, 1.0).rows.select(columns)


def test_images_by_name_need_their_folder(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export() == 2
    assert "--image-root FOLDER" in capsys.readouterr().err.splitlines()[-1]
    assert not list((corpus / "best").rglob("*.*"))


def test_a_missing_image_leaves_nothing_behind(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (corpus / "images/c.png").unlink()
    assert export("--image-root", "images") == 1
    assert "c.png" in capsys.readouterr().err.splitlines()[-1]
    assert not list((corpus / "best").rglob("*.*"))


def test_files_of_an_earlier_export_are_not_mixed_with_new_ones(
    corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("--image-root", "images") == 0
    before = (corpus / "best/README.md").read_bytes()
    assert export("--image-root", "images", "--fraction", "50%") == 2
    assert "name another --output" in capsys.readouterr().err.splitlines()[-1]
    assert (corpus / "best/README.md").read_bytes() == before


def test_no_absolute_path_of_an_image_gets_to_others(
    corpus: Path, score: Make, write_jsonl: Make, rollout: Make
) -> None:
    place = str(corpus / "images/b.png")
    score(write_jsonl("other.jsonl", [rollout([1.0], image=[place, "a.png"])]), corpus / "index")
    assert export("--image-root", "images") == 0
    (row,) = pq.read_table(corpus / "best/data/train-00000.parquet").to_pylist()
    assert [image["path"] for image in row["image"]] == ["b.png", "a.png"]
    assert [image["bytes"] for image in row["image"]] == [picture(1), picture(0)]


@pytest.mark.parametrize("name", ["README.md", "croissant.json"])
def test_a_page_that_is_there_is_not_replaced(
    name: str, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus / "best").mkdir()
    (corpus / "best" / name).write_text("my own")
    assert export("--image-root", "images") == 2
    assert f"expected a folder without {name} as --output" in capsys.readouterr().err.splitlines()[-1]
    assert [path.read_text() for path in (corpus / "best").rglob("*")] == ["my own"]


def test_an_interrupt_before_the_card_is_written_leaves_nothing_behind(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("bisieve.tools.formats.hf_dataset.dataset_card", interrupted)
    assert export("--image-root", "images") == 130
    assert not list((corpus / "best").rglob("*.*"))


def test_the_card_says_how_many_rollouts_were_left_out(corpus: Path) -> None:
    (corpus / "ids.txt").write_text("one\n")
    assert export("--image-root", "images", "--exclude", "ids.txt") == 0
    assert "| left out by their ids | 1 rollout |" in (corpus / "best/README.md").read_text()


def test_large_data_sets_are_split_into_files(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bisieve.tools.formats.parquet_files._ROWS", 1)
    monkeypatch.setattr("bisieve.tools.formats.parquet_files._FILE_BYTES", 5)
    assert export("--image-root", "images") == 0
    files = sorted(path.name for path in (corpus / "best/data").iterdir())
    assert files == ["train-00000.parquet", "train-00001.parquet", "train-00002.parquet"]


def test_datasets_opens_it(corpus: Path) -> None:
    assert export("--image-root", "images") == 0
    opened = datasets.load_dataset(str(corpus / "best"), split="train", cache_dir=str(corpus / "cache"))
    assert opened[0]["image"][0].size == (3, 2)
    assert opened[1]["score"] == [0.5]
