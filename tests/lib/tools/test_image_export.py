"""Images in records: scored, exported with their files, scored again and found by training."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support import forms
from support.forms import STRUCT
from support.forms import base64_text as text

from bisieve.cli.main import main
from bisieve.errors import ImageError
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from bisieve.io.images import load_image
from bisieve.shards.fetch import fetch_rollouts
from ray_train.config import TrainConfig
from ray_train.training.plan import chosen_selection, rollout_sizes, rows_without_images

SOURCES = ("binary", "dict", "lists", "named", "path", "url")


def picture(number: int) -> bytes:
    """An image of which every one differs."""
    pixels = np.random.default_rng(number).integers(0, 256, (4, 5, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_corpus(folder: Path, rollout: Callable[..., Any]) -> dict[str, list[bytes]]:
    """A shard a form, two rollouts each; returns each rollout's images."""
    pictures = {f"{source}{n}": [picture(6 * n + at)] for at, source in enumerate(SOURCES) for n in (0, 1)}
    pictures["lists1"].append(pictures["binary0"][0])
    parquet = {
        "path": (STRUCT, lambda n, data: {"bytes": data, "path": "imgs/a.png"}),  # the same path twice
        "lists": (pa.list_(STRUCT), lambda n, *data: [{"bytes": one, "path": None} for one in data]),
        "binary": (pa.binary(), lambda n, data: data),
    }
    lines = {
        "dict": lambda n, data: {"bytes": text(data), "path": f"{n}.png"},
        "named": lambda n, data: f"old/{n}.png",
        "url": lambda n, data: f"data:image/png;base64,{text(data)}",
    }
    folder.mkdir()
    for source in SOURCES:
        ids = [f"{source}{n}" for n in (0, 1)]
        rollouts = [rollout([1.0, n / 4], rollout_id=name) for n, name in enumerate(ids)]
        if source in lines:
            for n, record in enumerate(rollouts):
                record["image"] = lines[source](n, *pictures[ids[n]])
            (folder / f"{source}.jsonl").write_bytes(forms.as_lines(rollouts))
        else:
            kind, make = parquet[source]
            images = pa.array([make(n, *pictures[name]) for n, name in enumerate(ids)], kind)
            table = pa.Table.from_pylist(rollouts)
            pq.write_table(table.drop(["image"]).append_column("image", images), folder / f"{source}.parquet")
    return pictures


def test_images_in_records_are_exported_and_trained_on(
    score: Callable[..., Any], rollout: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = write_corpus(tmp_path / "corpus", rollout)
    images, index = tmp_path / "images", tmp_path / "index"
    (images / "new").mkdir(parents=True)
    for n in (0, 1):  # what is only named stays where it is
        (images / f"new/{n}.png").write_bytes(pictures[f"named{n}"][0])
    first, _ = score(tmp_path / "corpus", index, image_prefixes={"old/": "new/"})
    assert first.rollouts_by_source == dict.fromkeys(SOURCES, 2)
    assert first.manifest.rejected == {}

    config = TrainConfig(index=str(index), image_root=str(images), fraction=1.0, backbone="b", output="o")
    whole = read_selection(open_index(str(index)), 1.0)
    urls = replace(whole, rows=whole.rows.filter(pc.equal(whole.rows["source"], "url")))
    with pytest.raises(ImageError, match="--format records --images FOLDER"):
        rows_without_images(rollout_sizes(urls), config)

    export = ["export", "--index", str(index), "--fraction", "1", "--output"]
    for form in ("records", "mprm-jsonl"):
        assert main([*export, str(tmp_path / f"no-{form}"), "--format", form]) == 2
        assert "--images FOLDER" in capsys.readouterr().err
    exported = tmp_path / "cut"
    assert main([*export, str(exported), "--format", "records", "--images", str(images)]) == 0
    assert len([path for path in images.rglob("*") if path.is_file()]) == len(
        {data for all_of_it in pictures.values() for data in all_of_it}
    )
    assert not any("base64" in path.read_text() for path in exported.iterdir())

    again, _ = score(exported, tmp_path / "again")
    assert again.rollouts_by_source == first.rollouts_by_source
    config = TrainConfig(
        index=str(tmp_path / "again"), image_root=str(images), fraction=1.0, backbone="b", output="o"
    )
    trained_on = chosen_selection(config)
    assert rows_without_images(rollout_sizes(trained_on), config) == ()
    for found in fetch_rollouts(trained_on.rows, trained_on.shards):
        shown = [np.asarray(load_image(str(images), name)) for name in found.images]
        expected = [np.asarray(Image.open(io.BytesIO(data))) for data in pictures[found.rollout_id]]
        assert [pixels.tolist() for pixels in shown] == [pixels.tolist() for pixels in expected]

    assert main([*export, str(tmp_path / "paper.jsonl"), "--images", str(images)]) == 0
    names = [json.loads(line)["image"] for line in (tmp_path / "paper.jsonl").read_text().splitlines()]
    assert sorted(map(str, names)) == sorted(
        str(found.image) for found in fetch_rollouts(trained_on.rows, trained_on.shards)
    )
