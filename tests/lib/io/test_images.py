"""Images below an image root."""

import io
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from support.broken_images import BROKEN, encoded

from bisieve.errors import ImageError
from bisieve.io import images
from bisieve.io.images import (
    as_decoded,
    decode_image,
    image_url,
    load_image,
    missing_images,
    refuse_missing,
    was_transparent,
)

ORIENTATION = 0x0112  # EXIF

OUTSIDE = [
    "/etc/passwd", "../secret.png", "a/../../secret.png", "..\\secret.png", "%2e%2e/secret.png",
    "a/%2E%2E/%2e%2e/secret.png", "s3://bucket/secret.png", "file:///etc/passwd", "a::s3://bucket/key", "",
    "a/\0.png",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leaves_the_image_root_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="below the image root"):
        image_url(str(tmp_path), name)
    with pytest.raises(ImageError, match="below the image root"):
        missing_images(str(tmp_path), [name])


@pytest.mark.parametrize("name", ["a.png", "a/b.png", "a..b.png", "ü 100%.png", "2024:01.png", "./a.png"])
def test_an_ordinary_name_stays_below_the_root(name: str) -> None:
    assert image_url("s3://bucket/images/", name) == f"s3://bucket/images/{name}"


def test_a_name_never_chains_file_systems() -> None:
    with pytest.raises(ImageError, match="below the image root"):
        image_url("s3://bucket/images", "zip::a.png")
    assert image_url("/images", "zip::a.png") == "/images/zip::a.png"


@pytest.mark.parametrize("name", ["imgs\\a.png", ".\\imgs\\a.png", "imgs/a.png"])
def test_separators_of_either_system_lead_to_the_image(name: str, tmp_path: Path) -> None:
    (tmp_path / "imgs").mkdir()
    Image.new("RGB", (2, 3)).save(tmp_path / "imgs/a.png")
    assert load_image(str(tmp_path), name).size == (2, 3)
    assert missing_images(str(tmp_path), [name, *(f"{number}.png" for number in range(300))]) == {
        f"{number}.png" for number in range(300)
    }


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("s3://bucket/imgs", "s3://bucket/imgs/a/b.png"),
        ("s3://bucket/imgs/", "s3://bucket/imgs/a/b.png"),
        ("/data/imgs", "/data/imgs/a/b.png"),
        ("/data/imgs/", "/data/imgs/a/b.png"),
        ("/data/x/../imgs", "/data/imgs//a/b.png"),
        ("/data/imgs", "file:///data/imgs/a/b.png"),
        ("file:///data/imgs", "/data/imgs/a/b.png"),
    ],
)
def test_an_absolute_name_below_the_root_is_taken_as_relative(root: str, name: str) -> None:
    assert image_url(root, name) == f"{root.rstrip('/')}/a/b.png"


def test_an_absolute_name_is_found_through_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imgs").mkdir()
    (tmp_path / "imgs/a.png").touch()
    (tmp_path / "link").symlink_to("imgs")
    monkeypatch.chdir(tmp_path)
    for root in ("imgs", "link", str(tmp_path / "link")):
        names = [str(tmp_path / folder / "a.png") for folder in ("imgs", "link")]
        assert missing_images(root, names) == set()
        assert {image_url(root, name) for name in names} == {f"{root}/a.png"}


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("/data/imgs", "/data/imgs2/a.png"),
        ("/data/imgs", "/data/imgs"),
        ("/data/imgs", "/data/imgs/"),
        ("/data/imgs", "/data/imgs/../secret.png"),
        ("/data/imgs", "C:\\data\\imgs\\a.png"),
        ("/data/imgs", "\\\\server\\imgs\\a.png"),
        ("s3://bucket/imgs", "s3://bucket/imgs/../secret.png"),
        ("s3://bucket/imgs", "s3://other/imgs/a.png"),
        ("s3://bucket/imgs", "/bucket/imgs/a.png"),
        ("/data/imgs", "https://host/data/imgs/a.png"),
    ],
)
def test_any_other_absolute_name_is_refused_with_the_option_for_it(root: str, name: str) -> None:
    with pytest.raises(ImageError, match=r"below the image root .*--image-prefix OLD=NEW") as caught:
        image_url(root, name)
    assert "\n" not in str(caught.value)


def test_an_image_in_place_of_its_name_is_refused_with_the_way_out() -> None:
    with pytest.raises(ImageError, match="--format records --images FOLDER") as caught:
        image_url("/data", "data:image/png;base64," + "A" * 10_000)
    assert len(str(caught.value)) < 300


@given(st.lists(st.sampled_from(["..", ".", "a", "%2e%2e", "", "b.png", "\\.."]), min_size=1, max_size=5))
def test_no_name_leads_outside(parts: list[str]) -> None:
    name = "/".join(parts)
    try:
        url = image_url("/root/images", name)
    except ImageError:
        return
    assert Path(url).resolve().is_relative_to("/root/images")


@pytest.mark.parametrize("count", [3, 600], ids=["asked one by one", "listed at once"])
def test_missing_images_are_found(count: int, tmp_path: Path) -> None:
    names = [f"a/{number}.png" for number in range(count)]
    (tmp_path / "a").mkdir()
    for name in names[1:]:
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    wanted = [*names, "b.png", "b.png", "./a/1.png", "link/2.png"]
    assert missing_images(str(tmp_path), wanted) == {"a/0.png", "b.png"}


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert missing_images(str(tmp_path), ["a"]) == {"a"}


def test_missing_images_stop_the_run_with_an_example_and_their_number() -> None:
    with pytest.raises(ImageError, match=r"3 missing, such as a\.png; .*--skip-missing-images") as error:
        refuse_missing("/images", {"c.png", "a.png", "b.png"}, "use --skip-missing-images")
    assert "\n" not in str(error.value)
    refuse_missing("/images", set(), "do nothing")


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16", "CMYK"])
def test_every_image_is_read_as_rgb(mode: str, tmp_path: Path) -> None:
    name = "image.tiff"
    Image.new(mode, (4, 3)).save(tmp_path / name)
    image = load_image(str(tmp_path), name)
    assert (image.mode, image.size) == ("RGB", (4, 3))


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bits_a_pixel_keep_their_greys(mode: str, tmp_path: Path) -> None:
    order = ">u2" if mode == "I;16B" else "<u2"
    grey = np.array([[0, 25_600], [51_200, 65_535]], order)
    Image.frombytes(mode, (2, 2), grey.tobytes()).save(tmp_path / "image.tiff")
    read = np.asarray(load_image(str(tmp_path), "image.tiff"))
    assert read[..., 0].tolist() == [[0, 100], [200, 255]]


def _inked(mode: str) -> Image.Image:
    """Return a picture of two pixels, transparent black and opaque black."""
    if mode in ("RGBA", "LA"):
        image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
        image.putpixel((1, 0), (0, 0, 0, 255))
        return image.convert(mode)
    if mode == "P":
        image = Image.new("P", (2, 1))
        image.putpalette([0, 0, 0, 0, 0, 0])
        image.putpixel((1, 0), 1)
    else:
        image = Image.new(mode, (2, 1), (9, 9, 9) if mode == "RGB" else 0)
        image.putpixel((1, 0), (0, 0, 0) if mode == "RGB" else 1)
    image.info["transparency"] = {"P": bytes([0, 255]), "RGB": (9, 9, 9)}.get(mode, 0)
    return image


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L", "1", "I;16"])
def test_black_ink_on_a_transparent_picture_is_black_on_white(mode: str, tmp_path: Path) -> None:
    image = _inked(mode)
    image.save(tmp_path / "ink.png", transparency=image.info.get("transparency"))
    read = load_image(str(tmp_path), "ink.png")
    ink = {"L": 1, "1": 255}.get(mode, 0)  # the grey that is not the transparent one
    assert [read.getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (ink, ink, ink)]
    assert was_transparent(read)


@pytest.mark.parametrize(("bits", "row"), [(2, 0b01_00_0000), (4, 0b0101_0000)])
def test_a_transparent_grey_of_few_bits_is_put_on_white(bits: int, row: int, tmp_path: Path) -> None:
    """Pillow scales the greys of such a PNG to 8 bits and leaves the transparent one as it is."""
    key = row >> (8 - bits)  # the first of two pixels; the second is black
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 2, 1, bits, 0, 0, 0, 0), b"tRNS": struct.pack(">H", key),
        b"IDAT": zlib.compress(bytes([0, row])), b"IEND": b"",
    }  # fmt: skip
    parts = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )
    (tmp_path / "ink.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    read = load_image(str(tmp_path), "ink.png")
    assert [read.getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (0, 0, 0)]
    assert was_transparent(read)


def test_colours_that_were_multiplied_by_their_alpha_are_read_as_meant(tmp_path: Path) -> None:
    half = Image.new("RGBA", (1, 1), (200, 100, 0, 128))
    for image in (half.convert("RGBa"), half):
        assert images._opaque(image).getpixel((0, 0)) == pytest.approx((227, 177, 127), abs=2)
    grey = Image.new("LA", (1, 1), (100, 128))
    for image in (grey.convert("La"), grey):
        assert images._opaque(image).getpixel((0, 0)) == pytest.approx((177, 177, 177), abs=2)
        assert was_transparent(images._opaque(image))


def test_a_palette_with_opacity_of_its_own_is_put_on_white() -> None:
    """No encoder of Pillow writes such a picture: TGA, ICO and others read as one."""
    picture = Image.new("P", (2, 1))
    picture.putpalette([200, 100, 0, 128, 0, 0, 0, 255], "RGBA")
    picture.putpixel((1, 0), 1)
    for image in (picture, picture.convert("PA")):
        read = images._opaque(image)
        assert read.getpixel((0, 0)) == pytest.approx((227, 177, 127), abs=2)
        assert read.getpixel((1, 0)) == (0, 0, 0)
        assert was_transparent(read)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGB", "L", "P"])
def test_a_picture_without_a_transparent_pixel_keeps_its_pixels(mode: str, tmp_path: Path) -> None:
    noise = Image.effect_noise((16, 16), 90).convert("RGB")
    image = noise.convert(mode)
    image.save(tmp_path / "opaque.png")
    read = load_image(str(tmp_path), "opaque.png")
    assert read.tobytes() == image.convert("RGB").tobytes()
    assert not was_transparent(read)


def test_an_image_is_read_as_its_camera_was_held(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 2))
    image.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned clockwise
    image.save(tmp_path / "image.png", exif=exif)
    read = load_image(str(tmp_path), "image.png")
    assert read.size == (2, 4)
    assert read.getpixel((1, 0)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_turned_as_pillow_turns_it(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(Image.effect_noise((5, 3), 90).convert("RGB"), "png", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert (read := decode_image(data, "x.png")).size == expected.size
    assert read.tobytes() == expected.tobytes()


def exif_of(*entries: tuple[int, int, bytes]) -> bytes:
    """Return EXIF of tags of one value: number, type and the value's bytes."""
    fields = b"".join(struct.pack("<HHI", tag, kind, 1) + data.ljust(4, b"\0") for tag, kind, data in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + fields + bytes(4)


@pytest.mark.parametrize(
    "width",
    [(0x0100, 7, b"a"), (0x0100, 9, b"\xff" * 4), (0x0100, 77, b"a")],
    ids=["bytes", "negative", "no type"],
)
def test_a_broken_tag_beside_the_orientation_does_no_harm(width: tuple[int, int, bytes]) -> None:
    data = encoded(Image.new("RGB", (4, 2)), "jpeg", exif=exif_of((ORIENTATION, 3, b"\6\0"), width))
    assert decode_image(data, "x.jpg").size == (2, 4)


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", exif_of((ORIENTATION, 3, b"\6\0"))[:20], b"Exif\0\0"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_an_image_whose_exif_cannot_be_read_is_taken_as_it_is(exif: bytes) -> None:
    assert decode_image(encoded(Image.new("RGB", (4, 2)), "jpeg", exif=exif), "x.jpg").size == (4, 2)


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (3, 3), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "image.gif", save_all=True, append_images=frames[1:])
    assert load_image(str(tmp_path), "image.gif").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("kind", [name for name in BROKEN if "bomb" in name])
def test_an_image_of_too_many_pixels_is_named_before_it_is_unpacked(kind: str) -> None:
    data, found = BROKEN[kind]
    assert len(data) < 50_000
    with pytest.raises(
        ImageError, match=rf"of at most 67,108,864 pixels in x\.png; found .*{found}; make it smaller"
    ):
        decode_image(data, "x.png")


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.filterwarnings("error::ResourceWarning")
def test_a_broken_image_is_named_in_one_line_with_what_is_wrong(kind: str, tmp_path: Path) -> None:
    data, found = BROKEN[kind]
    (tmp_path / "broken.png").write_bytes(data)
    with pytest.raises(ImageError, match=rf"in broken\.png; found .*{found}") as caught:
        load_image(str(tmp_path), "broken.png")
    error = pickle.loads(pickle.dumps(caught.value))
    assert not any(word in str(error) for word in ("BytesIO", "\n", "DOS"))


@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "webp", "tiff", "bmp"])
def test_an_image_cut_off_anywhere_is_read_or_named(kind: str) -> None:
    whole = encoded(Image.effect_noise((32, 32), 50).convert("RGB"), kind)
    named = 0
    for kept in range(0, len(whole), max(1, len(whole) // 60)):
        try:
            assert decode_image(whole[:kept], "x").size == (32, 32)
        except ImageError as error:
            named += "BytesIO" not in str(error)
    assert named > 50


def test_whatever_pillow_raises_the_image_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(image: Image.Image) -> Image.Image:
        raise struct.error("unpack requires a buffer of 4 bytes")

    Image.new("RGB", (8, 8)).save(tmp_path / "odd.png")
    monkeypatch.setattr(Image.Image, "getexif", odd)
    with pytest.raises(ImageError, match=r"odd\.png; found unpack requires"):
        load_image(str(tmp_path), "odd.png")


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png"):
        load_image(str(tmp_path), "gone.png")


@pytest.mark.parametrize(
    ("mode", "format"),
    [("RGB", "JPEG"), ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("YCbCr", "TIFF"), ("I;16", "PNG"), ("P", "GIF"),
     ("RGBA", "PNG"), ("LA", "PNG"), ("1", "PNG")],
)  # fmt: skip
@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_an_opened_image_becomes_what_its_file_decodes_to(mode: str, format: str, orientation: int) -> None:
    plain = Image.linear_gradient("L").resize((8, 4))
    image = plain.convert("I").convert("I;16") if mode == "I;16" else plain.convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(100)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {} if format == "GIF" else {"exif": exif}
    file = io.BytesIO()
    image.save(file, format, **options)
    expected = decode_image(file.getvalue(), "a.file")
    with Image.open(io.BytesIO(file.getvalue())) as opened:
        found = as_decoded(opened, "an image in memory")
    assert found.size == ((4, 8) if orientation != 1 and format != "GIF" else (8, 4))
    assert (found.mode, found.tobytes()) == ("RGB", expected.tobytes())
    assert was_transparent(found) == was_transparent(expected) == (mode in ("RGBA", "LA"))
    again = as_decoded(found, "an image in memory")
    assert (again.tobytes(), was_transparent(again)) == (found.tobytes(), was_transparent(found))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "HSV", "F", "I", "PA", "La", "RGBa", "RGBX"])
def test_an_image_of_any_mode_in_memory_becomes_rgb(mode: str) -> None:
    assert as_decoded(Image.new(mode, (3, 2)), "an image in memory").mode == "RGB"


def test_a_cut_file_opened_before_is_an_error_of_one_line() -> None:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(file, "JPEG")
    with (
        Image.open(io.BytesIO(file.getvalue()[:-600])) as opened,
        pytest.raises(ImageError, match=r"an image in memory; found .*truncated"),
    ):
        as_decoded(opened, "an image in memory")
