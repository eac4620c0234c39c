"""The tokens that rollouts are estimated to have, and the image sizes they are estimated from."""

import io
from pathlib import Path

import torch
from PIL import Image

from ray_train.data.token_estimate import (
    RolloutSize,
    estimate_tokens,
    image_counter,
    image_sizes,
    keep_sizes,
    kept_sizes,
)
from ray_train.model.backbone import load_backbone

ROLLOUTS = [RolloutSize(("a", "b"), 40, 80, 2), RolloutSize(("gone",), 4, 4000, 1)]


def test_a_prompt_is_shared_in_packs_and_each_rollouts_own_in_rows() -> None:
    def estimated(packed: bool) -> tuple[list[int], list[int]]:
        found = estimate_tokens(
            ROLLOUTS, {"a": (1, 1), "b": (2, 2)}, lambda size, n: size[0], 4.0, 500, packed
        )
        return found.shared.tolist(), found.own.tolist()

    assert estimated(True) == ([1 + 2 + 10, 448 + 1], [20 + 4, 500 - 449])
    assert estimated(False) == ([0, 0], [37, 500])


def test_an_image_counts_as_many_tokens_as_the_processor_makes_of_it(folder: Path) -> None:
    backbone = load_backbone(str(folder), torch.float32)
    family, processor = backbone.family, backbone.processor
    slot = backbone.token_id(family.image_token(processor.tokenizer))
    count = image_counter(processor, family.image_options, 4)
    for size in [(30, 28), (200, 70), (64, 300)]:
        text = [family.image_slot(processor.tokenizer)]
        options = family.image_options(4)
        made = processor(images=[[Image.new("RGB", size)]], text=text, return_tensors="pt", **options)
        slots = int((made["input_ids"] == slot).sum())
        assert 0 <= count(size, 1) - slots <= 2, "InternVL's begin and end of an image count, too"
    assert count((10_000, 10), 1) > 0, "Qwen refuses it; an estimate does not"


def test_sizes_come_from_headers_upright_and_are_kept_beside_the_run(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (50, 20)).save(tmp_path / "turned.jpg", exif=turned)
    file = io.BytesIO()
    Image.effect_noise((90, 70), 50).save(file, "png")
    (tmp_path / "cut.png").write_bytes(file.getvalue()[:200])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    names = ["turned.jpg", "cut.png", "text.png", "empty.png", "gone.png"]
    root, output = str(tmp_path), str(tmp_path / "output")
    sizes = image_sizes(root, names)
    assert sizes == {
        "turned.jpg": (20, 50), "cut.png": (90, 70), "text.png": None, "empty.png": None, "gone.png": None
    }  # fmt: skip
    keep_sizes(output, root, sizes)
    assert kept_sizes(output, root) == {"turned.jpg": (20, 50), "cut.png": (90, 70)}
    assert kept_sizes(output, "another root") == {}
    (tmp_path / "turned.jpg").unlink()
    assert image_sizes(root, names, kept_sizes(output, root)) == sizes
    (tmp_path / "output" / "image_sizes.parquet").write_bytes(b"PAR1")
    assert kept_sizes(output, root) == {}
