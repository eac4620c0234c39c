"""Images that are in the records themselves."""

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.forms import STRUCT
from support.forms import base64_text as text

from bisieve.errors import ImageError, UsageError
from bisieve.io.images import is_base64
from bisieve.records.embedded_images import Picture, is_safe, located, picture_of
from bisieve.records.options import ReadOptions
from bisieve.scan import scan_rollout_split, scan_step_split
from bisieve.scan.batches import ScanOptions, question_id
from bisieve.shards.listing import Split
from bisieve.tools.image_folder import ImageFolder, refuse

KINDS = {".png": "PNG", ".jpg": "JPEG", ".gif": "GIF", ".bmp": "BMP", ".webp": "WEBP", ".tif": "TIFF"}


@cache
def encoded(colour: str = "red", kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), colour).save(file, kind)
    return file.getvalue()


RED, BLUE = encoded("red"), encoded("blue")
RED_NAME, BLUE_NAME = Picture(RED).hashed_name, Picture(BLUE).hashed_name


def scan(path: Path, layout: str = "rollouts", **reading: Any) -> list[dict[str, Any]]:
    scan_split = scan_rollout_split if layout == "rollouts" else scan_step_split
    batches = scan_split(Split(str(path), 0, 10**12), ScanOptions(0.05, reading=ReadOptions(**reading)))
    return sorted((row for batch in batches for row in batch.to_pylist()), key=lambda row: row["offset"])


def write_images(path: Path, images: list[Any], kind: pa.DataType, name: str = "image") -> Path:
    """A shard of rollouts that have these images and are otherwise the same."""
    steps = [[{"step": "one", "score": 1.0}]] * len(images)
    columns = {name: pa.array(images, kind), "question": ["What?"] * len(images), "steps_with_score": steps}
    pq.write_table(pa.table(columns), path, row_group_size=2)
    return path


@pytest.mark.parametrize("suffix", KINDS)
def test_base64_of_every_kind_of_image_is_told_from_a_name(suffix: str) -> None:
    data = encoded(kind=KINDS[suffix])
    plain = text(data)
    in_lines = "\n".join(plain[at : at + 76] for at in range(0, len(plain), 76))
    for form in (plain, in_lines, plain.rstrip("="), f"data:image/x;base64,{plain}", f"DATA:;base64,{plain}"):
        assert is_base64(form)
        picture = picture_of(form)
        assert picture is not None
        assert picture.data == data
        assert picture.name.endswith(suffix)


@pytest.mark.parametrize(
    "name",
    ["", "a.png", "data:x.png", "data/base64/a.png", "/9j/photos/of/a/summer/long/ago/number/one.jpg",
     "A" * 200, "iVBORw0KGgo", "数" * 50, "R0lGODlhAQABAIAAAP___wAAACwAAAAAAQ.gif"],
)  # fmt: skip
def test_a_name_is_no_base64(name: str) -> None:
    assert not is_base64(name)
    assert picture_of(name) is None


@pytest.mark.parametrize("path", ["a.png", "imgs/a b.png", "数.png", "a..b.png", "./a.png"])
def test_a_safe_path_is_the_name(path: str) -> None:
    assert is_safe(path)
    assert Picture(RED, path).name == path


@pytest.mark.parametrize(
    "path",
    [None, "", " ", ".", "a/.", "a/", "/data/a.png", "../a.png", "a/../b.png", "s3://b/a.png", "C:\\a.png",
     "a\\b", "%2e%2e/a.png", "zip://a::b", "a\0.png"],
)  # fmt: skip
def test_under_any_other_path_an_image_is_named_for_its_bytes(path: str | None) -> None:
    assert Picture(RED, path).name == RED_NAME


@pytest.mark.parametrize(
    ("kind", "images", "names"),
    [
        (STRUCT, [{"bytes": RED, "path": "a.png"}, {"bytes": RED, "path": None}], ["a.png", RED_NAME]),
        (STRUCT, [{"bytes": RED, "path": "/a.png"}, {"bytes": None, "path": "/a.png"}], [RED_NAME, "/a.png"]),
        (STRUCT, [None, {"bytes": None, "path": None}, {"bytes": b"", "path": " "}], [None, None, None]),
        (pa.list_(STRUCT), [[{"bytes": RED, "path": "a"}, {"bytes": BLUE, "path": "b"}]], [["a", "b"]]),
        (pa.list_(STRUCT), [[{"bytes": RED, "path": None}], []], [[RED_NAME], None]),
        (pa.large_list(STRUCT), [[{"bytes": RED, "path": None}]], [[RED_NAME]]),
        (pa.binary(), [RED, BLUE, b"a.png", b"BMW.png", None], [RED_NAME, BLUE_NAME, None, None, None]),
        (pa.large_binary(), [RED], [RED_NAME]),
        (pa.list_(pa.binary()), [[RED, BLUE]], [[RED_NAME, BLUE_NAME]]),
        (pa.string(), ["data:image/png;base64," + text(RED)], ["data:image/png;base64," + text(RED)]),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)  # fmt: skip
@pytest.mark.parametrize("name", ["image", "photo.of"])
def test_images_in_a_parquet_shard_are_named(
    tmp_path: Path, kind: pa.DataType, images: list[Any], names: list[Any], name: str
) -> None:
    rows = scan(write_images(tmp_path / "a.parquet", images, kind, name), fields={"image": name})
    assert [row["reason"] for row in rows] == [None if known else "no_image" for known in names]
    assert [row["question_id"] for row in rows if not row["reason"]] == [
        question_id(known, "What?") for known in names if known
    ]


@pytest.mark.parametrize("kind", [STRUCT, pa.list_(STRUCT)], ids=str)
def test_no_image_is_read_whose_path_names_it(
    tmp_path: Path, kind: pa.DataType, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ["a.png", "b.png", "c.png", None]  # two row groups
    structs: list[Any] = [{"bytes": RED, "path": path} for path in paths]
    images = structs if kind == STRUCT else [[struct] for struct in structs]
    path = write_images(tmp_path / "a.parquet", images, kind)
    read, asked = pq.ParquetFile.iter_batches, []
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda self, *args, **options: asked.append(options["columns"]) or read(self, *args, **options),
    )
    assert [row["reason"] for row in scan(path)] == [None] * 4
    leaf = "image.path" if kind == STRUCT else "image.list.element.path"
    rest = ["question", "steps_with_score"]
    assert asked == [[leaf], [leaf, *rest], [leaf], ["image", *rest]]


def test_an_image_on_the_first_of_a_rollouts_steps_is_named(tmp_path: Path) -> None:
    images = [{"bytes": RED, "path": None}, None]
    columns = {
        "rollout_id": ["r", "r"], "step_index": [0, 1], "step": ["one", "two"], "score": [1.0, 0.5],
        "image": pa.array(images, STRUCT), "question": ["What?", None],
    }  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    first, second = scan(tmp_path / "a.parquet", "steps")
    assert (first["reason"], first["question_id"]) == (None, question_id(RED_NAME, "What?"))
    assert (second["reason"], second["question_id"]) == (None, None)


@pytest.mark.parametrize("layout", ["rollouts", "steps"])
@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (text(RED), None),
        ([f"data:image/png;base64,{text(RED)}", "b.png"], None),
        ({"bytes": text(RED), "path": "a.png"}, None),
        ([{"bytes": text(RED)}, {"path": "b.png"}], None),
        ({"bytes": None, "path": None}, "no_image"),
        ({"other": 1}, "no_image"),
    ],
)
def test_images_in_lines_are_usable(tmp_path: Path, layout: str, image: Any, reason: str | None) -> None:
    step = {"step": "one", "score": 1.0}
    place = (
        {"rollout_id": "r", "step_index": 0, **step} if layout == "steps" else {"steps_with_score": [step]}
    )
    lines = [{"image": image, "question": "What?", **place}, {"image": "a.png", "question": "What?", **place}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    if layout == "steps" and image == {"bytes": None, "path": None}:
        reason = None  # as of a null: another step of the rollout may have its image
    assert [row["reason"] for row in scan(tmp_path / "a.jsonl", layout)] == [reason, None]


def test_each_image_is_written_once_and_over_no_other(tmp_path: Path) -> None:
    pictures = [Picture(RED, "x/a.png"), Picture(BLUE, "x/a.png"), Picture(RED, "./x/a.png"), Picture(RED)]
    folder = ImageFolder(str(tmp_path))
    names = folder.save(pictures)
    assert names == ["x/a.png", f"x/a-{BLUE_NAME}", "x/a.png", RED_NAME]
    assert [(tmp_path / name).read_bytes() for name in names] == [RED, BLUE, RED, RED]
    before = (tmp_path / "x/a.png").stat()
    assert folder.save(pictures) == ImageFolder(str(tmp_path)).save(pictures) == names
    assert (tmp_path / "x/a.png").stat() == before
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 3
    with pytest.raises(ImageError, match=r"x/a\.png; .*--images"):
        ImageFolder(str(tmp_path)).save([Picture(BLUE, "x/a.png")])
    assert (tmp_path / "x/a.png").read_bytes() == RED


def test_broken_base64_is_told_with_the_place_of_its_record() -> None:
    broken = f"data:image/png;base64,{text(RED)[:50]}*"
    with pytest.raises(ImageError, match=r"in base64 in the record at c/a\.jsonl@17"):
        located(broken, "c/a.jsonl@17", ReadOptions(), refuse)


def test_a_prefix_is_for_names_alone() -> None:
    images = ["a.png", text(RED)]
    reading = ReadOptions(image_prefixes={"": "imgs/"})
    assert located(images, "", reading, None) == ["imgs/a.png", text(RED)]
    assert located(images, "", reading, lambda pictures: ["x.png"] * len(pictures)) == ["imgs/a.png", "x.png"]


def test_images_that_have_no_folder_to_go_to_are_refused() -> None:
    assert located("a.png", "", ReadOptions(), refuse) == "a.png"
    with pytest.raises(UsageError, match="--images FOLDER"):
        located(text(RED), "", ReadOptions(), refuse)
