"""The cache of a store's images (what it serves, keeps and refuses to keep), and broken images of a run.

The exchange between ranks is replaced, since one process plays all of them.
"""

import itertools
import os
import pickle
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bisieve.errors import ImageError, StorageError, TrainingError
from bisieve.io import storage, urls
from ray_train.data.images import ImageCache, image_reader, newly_broken

CHECKSUM = 16  # bytes
SIZE = 1000 - CHECKSUM  # bytes of each image here
_versions = itertools.count(1)


@pytest.fixture
def transferred(monkeypatch: pytest.MonkeyPatch) -> "Counter[str]":
    """How often the bytes of an image were read from their store, by name."""
    count: Counter[str] = Counter()
    read = storage.read_bytes

    def counting(url: str) -> bytes:
        count[urls.basename(url)] += 1
        return read(url)

    monkeypatch.setattr(storage, "read_bytes", counting)
    return count


def write(folder: Path, name: str, content: bytes) -> str:
    """The URL of a file with a version of its own."""
    (folder / name).write_bytes(content)
    os.utime(folder / name, (1, next(_versions)))
    return str(folder / name)


def files(cache: ImageCache) -> list[Path]:
    return [path for path in cache.folder.rglob("*") if path.is_file() and path.name != ".lock"]


def cache_of(folder: Path, images: int) -> ImageCache:
    """Room for some images, on one shelf."""
    return ImageCache(folder / "cache", images * 1000, shelves=1)


def test_an_image_is_transferred_once_for_all_who_share_the_folder(
    tmp_path: Path, transferred: "Counter[str]"
) -> None:
    url = write(tmp_path, "a", b"x" * SIZE)
    for _ in range(3):
        assert ImageCache(tmp_path / "cache", 10**6).read(url) == b"x" * SIZE
    assert transferred == {"a": 1}


def test_an_image_that_was_written_again_is_read_again(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 10)
    for content in (b"one", b"two", b"one"):
        assert cache.read(write(tmp_path, "a", content)) == content


@pytest.mark.parametrize("left", [0, 7, 500])
def test_a_torn_file_is_read_again(left: int, tmp_path: Path, transferred: "Counter[str]") -> None:
    cache, content = cache_of(tmp_path, 10), bytes(range(200)) * 4
    url = write(tmp_path, "a", content)
    cache.read(url)
    (kept,) = files(cache)
    kept.write_bytes(kept.read_bytes()[:left].ljust(len(content) + CHECKSUM, b"\0"))
    for _ in range(2):
        assert cache.read(url) == content
    assert transferred == {"a": 2}


def test_the_least_recently_used_image_goes_first(tmp_path: Path, transferred: "Counter[str]") -> None:
    cache = cache_of(tmp_path, 2)
    urls = {name: write(tmp_path, name, name.encode() * SIZE) for name in "abc"}
    for name in "abac":  # the last one takes the place of b
        cache.read(urls[name])
        for age, file in enumerate(sorted(files(cache), key=lambda file: file.stat().st_mtime_ns)):
            os.utime(file, (age, age))  # clocks of file systems may be too coarse to tell them apart
    assert len(files(cache)) == 2
    for name in "ab":
        cache.read(urls[name])
    assert transferred == {"a": 1, "b": 2, "c": 1}


def test_the_bound_holds_whoever_writes(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 5)
    names = [f"{number:03}" for number in range(40)] * 2
    urls = {name: write(tmp_path, name, name.encode() * (SIZE // 3)) for name in names}

    def read(name: str) -> bool:
        found = cache.read(urls[name])
        return found == name.encode() * (SIZE // 3) and kept_bytes(cache) <= cache.limit

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, names))
    assert 0 < len(files(cache)) <= 5


def kept_bytes(cache: ImageCache) -> int:
    sizes = []
    for file in files(cache):
        try:
            sizes.append(file.stat().st_size)
        except FileNotFoundError:
            continue
    return sum(sizes)


def test_what_a_killed_process_left_behind_goes(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 5)
    cache.read(write(tmp_path, "a", b"a"))
    left = files(cache)[0].parent / "half.tmp"
    left.write_bytes(b"half")
    cache.read(write(tmp_path, "b", b"b"))
    assert not left.exists()


def test_an_image_that_is_larger_than_a_shelf_is_served_and_not_kept(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 1)
    assert cache.read(write(tmp_path, "a", b"a" * 5000)) == b"a" * 5000
    assert not files(cache)


def test_a_cache_that_cannot_be_written_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    assert cache_of(tmp_path, 5).read(write(tmp_path, "a", b"a")) == b"a"


def test_an_image_that_is_gone_is_an_error_even_if_it_was_kept(tmp_path: Path) -> None:
    cache = cache_of(tmp_path, 5)
    url = write(tmp_path, "a", b"a")
    cache.read(url)
    Path(url).unlink()
    with pytest.raises(StorageError):
        cache.read(url)


def test_images_of_a_store_go_through_the_cache_and_local_ones_do_not(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transferred: "Counter[str]"
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    storage.write_bytes(f"{s3}/cached/a.png", b"a" * 100)
    assert image_reader(f"{s3}/cached", 0).cache is None
    assert image_reader(str(tmp_path), 1).cache is None
    reader = image_reader(f"{s3}/cached", 1)
    for _ in range(2):
        assert reader.read("a.png").data == b"a" * 100
    storage.write_bytes(f"{s3}/cached/a.png", b"b" * 100)
    assert reader.read("a.png").data == b"b" * 100
    assert transferred == {"a.png": 2}
    with pytest.raises(ImageError, match=r"image b\.png below"):
        reader.read("b.png")


def test_a_cache_without_a_place_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="--image-cache-gb 0"):
        image_reader("s3://bucket/images", 1, tmp_path / "file" / "images")


RANKS = [{"b.png": "truncated", "a.png": "no image"}, {}, {"b.png": "truncated", "c.png": "too large"}]


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_train.data.images.from_all_ranks", lambda found: RANKS)


@pytest.mark.usefixtures("ranks")
def test_each_image_counts_once_over_all_ranks_and_steps() -> None:
    assert list(newly_broken(RANKS[0], {}, 3)) == ["a.png", "b.png", "c.png"]
    assert newly_broken(RANKS[0], {"b.png": "truncated"}, 3) == {"a.png": "no image", "c.png": "too large"}


@pytest.mark.usefixtures("ranks")
def test_known_images_alone_end_no_run_even_where_fewer_are_tolerated_now() -> None:
    known = dict.fromkeys(("a.png", "b.png", "c.png"), "no image")
    assert newly_broken(RANKS[0], known, 1) == {}


@pytest.mark.usefixtures("ranks")
@pytest.mark.parametrize("known", [{}, {"z.png": "truncated"}], ids=["of a step", "with earlier ones"])
def test_more_than_are_tolerated_are_all_named(known: dict[str, str]) -> None:
    with pytest.raises(ImageError) as caught:
        newly_broken(RANKS[1], known, 2 + len(known))
    error = pickle.loads(pickle.dumps(caught.value))
    for name in (*known, "a.png (no image)", "b.png (truncated)", "c.png (too large)"):
        assert name in str(error)
    assert f"expected at most {2 + len(known)} broken images; found {3 + len(known)}: " in str(error)
    assert "raise --skip-broken-images" in str(error)
