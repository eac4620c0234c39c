"""Image names as other systems write them are the same image to training, evaluation and dry run."""

from pathlib import Path

import pytest
from PIL import Image

from bisieve.errors import ImageError
from bisieve.io.images import load_image, missing_images
from ray_train.data.images import image_reader
from ray_train.data.token_estimate import image_sizes

RED = (255, 0, 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "imgs").mkdir()
    for name in ("a.png", "a::b.png"):
        Image.new("RGB", (6, 4), RED).save(tmp_path / "imgs" / name)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["imgs/a.png", "imgs\\a.png", "imgs/a::b.png", "{root}/imgs/a.png", "file://{root}/imgs/a.png"]
)
def test_all_readers_find_the_image(root: Path, name: str) -> None:
    name = name.format(root=root)
    assert image_reader(str(root), 0).read(name).decode().getpixel((0, 0)) == RED
    assert load_image(str(root), name).size == (6, 4)
    assert image_sizes(str(root), [name]) == {name: (6, 4)}
    assert missing_images(str(root), [name]) == set()
    many = {f"imgs\\{number}.png" for number in range(300)}  # so many are looked for in one listing
    assert missing_images(str(root), [name, *many]) == many


@pytest.mark.parametrize("name", ["/elsewhere/a.png", "C:\\imgs\\a.png", "s3://bucket/a.png"])
def test_all_readers_name_the_option_for_an_image_elsewhere(root: Path, name: str) -> None:
    for read in (
        lambda: image_reader(str(root), 0).read(name),
        lambda: load_image(str(root), name),
        lambda: missing_images(str(root), [name]),
    ):
        with pytest.raises(ImageError, match="--image-prefix OLD=NEW"):
            read()
