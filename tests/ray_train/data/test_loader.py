"""What a rank is fed: the same batches whoever prepares them, and errors where they belong."""

import json
import os
import re
import shutil
import signal
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from support.broken_images import BROKEN
from support.small_corpus import Corpus, make_record, write_index

from bisieve.errors import ImageError, TrainingError
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from bisieve.shards.fetch import fetch_rollouts
from ray_train.data.encode import make_encoder
from ray_train.data.images import ImageReader
from ray_train.data.labels import Targets
from ray_train.data.loader import Prefetcher, RankLoader
from ray_train.data.packing import make_packer
from ray_train.data.sampler import BatchPlan, prompts_of
from ray_train.model.backbone import load_backbone
from ray_train.model.packed_attention import read_packs
from ray_train.model.prompt_format import PromptFormat
from ray_train.model.reward import Batch, reward_loss, reward_model

pytestmark = pytest.mark.slow  # processes that import torch and transformers

BATCH = 6


@pytest.fixture
def feed(corpus: Corpus, folder: Path) -> RankLoader:
    """The feed of the only rank: packs of the whole corpus."""
    return feed_of(corpus, folder)


@pytest.fixture
def internvl_feed(corpus: Corpus, internvl: Path) -> RankLoader:
    return feed_of(corpus, internvl)


def feed_of(corpus: Corpus, folder: Path) -> RankLoader:
    selection = read_selection(open_index(corpus.index), 1.0)
    backbone = load_backbone(str(folder), torch.float32)
    slot = backbone.family.image_slot(backbone.processor.tokenizer)
    encoder = make_encoder(backbone, PromptFormat(slot, backbone.family.image_options(2)), 4096)
    plan = BatchPlan(
        selection.fingerprint, selection.rows.num_rows, (), 0, 1, BATCH, prompts_of(selection), True
    )
    packer = make_packer(backbone, encoder, 200)
    targets = Targets(selection.rows, np.ones(selection.rows.num_rows), "hard", 0.0)
    return RankLoader(selection, plan, encoder, packer, ImageReader(corpus.images), targets, 2, 0, 1)


def check_same(found: list[Batch], expected: list[Batch]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.rows, one.last, one.kept_steps) == (other.rows, other.last, other.kept_steps)
        assert one.labels.tolist() == other.labels.tolist()
        assert one.inputs.keys() == other.inputs.keys()
        for name, value in other.inputs.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(one.inputs[name], value, rtol=0, atol=0)
            else:
                assert one.inputs[name] == value


@pytest.mark.parametrize("packs", [True, False], ids=["packs", "rows"])
def test_data_workers_change_no_batch(packs: bool, feed: RankLoader) -> None:
    feed = replace(feed, packer=feed.packer if packs else None)
    expected = list(feed.batches(3))
    assert sum(batch.last for batch in expected) == feed.plan.total_steps - 3
    assert sorted(row for batch in expected for row in batch.rows) == sorted(
        row for step in range(3, feed.plan.total_steps) for row in feed.plan.batch(step)
    )
    check_same(list(replace(feed, data_workers=2).batches(3)), expected)
    assert not data_processes()


def test_a_rank_without_a_share_has_one_batch_that_weighs_nothing(internvl_feed: RankLoader) -> None:
    for packer in (internvl_feed.packer, None):
        late = replace(internvl_feed, rank=6, world_size=7, packer=packer)
        *_, batch = late.batches(late.plan.total_steps - 1)
        assert (batch.rows, batch.last) == ([], True)
        assert not batch.weights.any()
        check_same([late.filler()], [batch])


@pytest.mark.parametrize(
    ("workers", "kind", "found"),
    [
        (0, "truncated PNG", "decoded in {}; .*; write an image under that name, then run the same"),
        (2, "truncated PNG", "decoded in {}"),
        (0, "bomb", "pixels in {}"),
    ],
)
def test_a_bad_image_ends_the_run_in_its_step(
    workers: int, kind: str, found: str, internvl_feed: RankLoader, corpus: Corpus, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(corpus.images, images)
    step, name = latest_image(internvl_feed)
    (images / name).write_bytes(BROKEN[kind][0])
    broken = replace(internvl_feed, images=ImageReader(str(images)), data_workers=workers)
    batches: list[Batch] = []
    with pytest.raises(ImageError, match=found.format(name)):
        batches.extend(broken.batches(0))
    assert sum(batch.last for batch in batches) == step > 0
    assert not data_processes()


@pytest.mark.parametrize("packs", [True, False], ids=["packs", "rows"])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_the_processor_does_not_take_is_named_with_its_rollout(
    workers: int, packs: bool, qwen: Path, corpus: Corpus, tmp_path: Path
) -> None:
    feed, images = feed_of(corpus, qwen), tmp_path / "images"
    shutil.copytree(corpus.images, images)
    step, name = latest_image(feed)
    Image.new("RGB", (4100, 10)).save(images / name)
    broken = replace(feed, images=ImageReader(str(images)), data_workers=workers)
    batches: list[Batch] = []
    refused = rf"{name} of rollout \w+-\d+; found .* ratio .*; replace it .* again"
    with pytest.raises(ImageError, match=refused):
        batches.extend(replace(broken, packer=feed.packer if packs else None).batches(0))
    assert sum(batch.last for batch in batches) == step > 0


KINDS = {name: said for name, (_, said) in BROKEN.items()} | {"refused": "ratio"}  # and what is said of each


def broken_copy(corpus: Corpus, images: Path, kinds: Iterable[str]) -> list[str]:
    """Copy the images of ``corpus``, the first ones broken in these ways, to a folder; return their names."""
    shutil.copytree(corpus.images, images)
    names = sorted(file.name for file in images.iterdir())
    broken = dict(zip(names, kinds, strict=False))
    for name, kind in broken.items():
        if kind == "refused":
            Image.new("RGB", (4100, 10)).save(images / name)
        else:
            (images / name).write_bytes(BROKEN[kind][0])
    return list(broken)


@pytest.mark.parametrize("packs", [True, False], ids=["packs", "rows"])
@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_of_all_kinds_cost_their_rollouts_and_nothing_else_on_any_number_of_ranks(
    workers: int, packs: bool, qwen: Path, corpus: Corpus, tmp_path: Path
) -> None:
    images, whole = tmp_path / "images", feed_of(corpus, qwen)
    names = broken_copy(corpus, images, KINDS)
    rollouts = fetch_rollouts(whole.selection.rows, whole.selection.shards)
    packer, reader = whole.packer if packs else None, ImageReader(str(images))
    feed = replace(whole, images=reader, packer=packer, data_workers=workers, skip_broken=True)
    expected = [
        {row for row in feed.plan.batch(step) if not {*rollouts[row].images} & {*names}}
        for step in range(feed.plan.total_steps)
    ]
    for world_size in (1,) if workers else (1, 3):
        found: list[set[int]] = [set() for _ in expected]
        broken: dict[str, str] = {}
        for rank in range(world_size):
            step = 0
            for batch in replace(feed, rank=rank, world_size=world_size).batches(0):
                assert (batch.skipped, batch.shortened) == (0, 0)
                assert float(batch.weights.sum()) == sum(len(rollouts[row].steps) for row in batch.rows)
                found[step] |= {*batch.rows}
                broken |= batch.broken
                step += batch.last
            assert step == feed.plan.total_steps
        assert found == expected
        assert sorted(broken) == names
        for name, said in zip(names, KINDS.values(), strict=True):
            assert re.search(said, broken[name])


@pytest.mark.parametrize("packs", [True, False], ids=["packs", "rows"])
def test_losses_beside_broken_images_are_the_same_on_any_number_of_ranks(
    packs: bool, internvl: Path, corpus: Corpus, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    broken_copy(corpus, images, list(BROKEN)[:4])
    feed = replace(feed_of(corpus, internvl), images=ImageReader(str(images)), skip_broken=True)
    feed = feed if packs else replace(feed, packer=None)
    backbone = load_backbone(str(internvl), torch.float32)
    if packs:
        read_packs(backbone.model)
    model = reward_model(backbone, feed.encoder.format).eval()

    def losses(world_size: int) -> list[float]:
        """The sum of the losses of all ranks by step."""
        found = [0.0] * feed.plan.total_steps
        for rank in range(world_size):
            step = 0
            for batch in replace(feed, rank=rank, world_size=world_size).batches(0):
                found[step] += float(reward_loss(model(batch.inputs), batch.labels, batch.weights))
                step += batch.last
            assert step == feed.plan.total_steps
        return found

    with torch.inference_mode():
        alone = losses(1)
        assert len(alone) > 6
        assert min(alone) >= 0
        assert max(alone) > 0
        for world_size in (2, 4):
            assert losses(world_size) == pytest.approx(alone, rel=1e-5)


def test_a_missing_image_is_no_broken_one(internvl_feed: RankLoader, corpus: Corpus, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(corpus.images, images)
    _, name = latest_image(internvl_feed)
    (images / name).unlink()
    tolerant = replace(internvl_feed, images=ImageReader(str(images)), skip_broken=True)
    with pytest.raises(ImageError, match=name):
        list(tolerant.batches(0))


def latest_image(feed: RankLoader) -> tuple[int, str]:
    """The image that training comes to last, and its step."""
    rollouts = fetch_rollouts(feed.selection.rows, feed.selection.shards)
    first: dict[str, int] = {}
    for step in range(feed.plan.total_steps):
        for row in feed.plan.batch(step):
            first.setdefault(rollouts[row].images[0], step)
    return max((step, name) for name, step in first.items())


@pytest.mark.parametrize("packs", [True, False], ids=["packs", "rows"])
def test_rollouts_of_several_images_of_all_kinds_are_fed(packs: bool, internvl: Path, tmp_path: Path) -> None:
    images, shards = tmp_path / "images", tmp_path / "shards"
    images.mkdir()
    shards.mkdir()
    held = Image.Exif()
    held[0x0112] = 6  # turned
    tall = Image.new("RGB", (28, 60), "white")
    tall.rotate(90, expand=True).save(images / "exif.jpg", exif=held)
    tall.save(images / "several.gif", save_all=True, append_images=[Image.new("RGB", (28, 60))])
    tall.convert("CMYK").save(images / "cmyk.jpg")
    tall.convert("RGBA").save(images / "alpha.png")
    names = ["exif.jpg", "several.gif", "cmyk.jpg", "alpha.png"]
    records = [make_record("several", 1) | {"image": names}, make_record("several", 2) | {"image": names[:1]}]
    (shards / "several.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    write_index(str(shards), str(tmp_path / "index"))
    feed = feed_of(Corpus(str(tmp_path / "index"), str(images), "", shards), internvl)
    packer = replace(feed.packer, budget=1) if feed.packer and packs else None
    batches = list(replace(feed, packer=packer, micro_batch=1).batches(0))
    pixels = {len(batch.inputs["pixel_values"]): batch.inputs["pixel_values"] for batch in batches}
    (fewer, one), (more, four) = sorted(pixels.items())
    assert more == 4 * fewer, "tiles; all images have the same shape once they are upright"
    for image in four.split(fewer):
        assert (image - one).abs().max() < 0.05, "white, but for JPEG"


def test_a_killed_data_worker_is_an_error_and_leaves_nothing_behind(internvl_feed: RankLoader) -> None:
    feed = replace(internvl_feed, data_workers=1)
    prefetcher = Prefetcher(feed.batches(0), feed.filler(), depth=1)
    assert prefetcher.take().rows
    assert prefetcher.waited > 0
    (worker,) = data_processes()
    os.kill(worker.pid, signal.SIGKILL)
    while prefetcher.error is None:  # what was made before comes first
        prefetcher.take()
    assert isinstance(prefetcher.error, TrainingError)
    assert "1 running data worker; found one that was killed" in str(prefetcher.error)
    assert prefetcher.take().rows == []
    prefetcher.close()
    assert not data_processes()


def test_a_run_that_ends_early_leaves_no_data_worker_behind(internvl_feed: RankLoader) -> None:
    feed = replace(internvl_feed, data_workers=2)
    prefetcher = Prefetcher(feed.batches(0), feed.filler(), depth=1)
    prefetcher.take()
    assert data_processes()
    prefetcher.close()
    assert not data_processes()


def data_processes() -> list[psutil.Process]:
    """The data workers of this process: children of its fork server."""
    servers = filter(_is_fork_server, psutil.Process().children())
    return [worker for server in servers for worker in server.children()]


def _is_fork_server(process: psutil.Process) -> bool:
    try:
        return "forkserver" in " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return False
