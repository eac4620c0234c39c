"""Where a backbone comes from, and that another one at the same place is told from it."""

import errno
import shutil
from pathlib import Path

import pytest
import torch
from support.backbones import write_other_weights
from support.hubs import HUB_ID, empty_cache

from bisieve.errors import DiskError, TrainingError
from bisieve.io import storage
from ray_train.model.backbone import load_backbone
from ray_train.model.sources import contents_of, known_as, local_copy, revision_of


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a hub id that was fetched before, in a cache with no hub behind it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return empty_cache(tmp_path / "hub", monkeypatch)


def test_a_hub_id_a_folder_and_a_url_give_the_same_backbone(
    qwen: Path, hub: Path, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(qwen, hub)
    for file in qwen.iterdir():
        storage.write_bytes(f"{s3}/backbones/qwen/{file.name}", file.read_bytes())
    sources = (str(qwen), f"file://{qwen}", f"{s3}/backbones/qwen", HUB_ID)
    folder, *others = (load_backbone(source, torch.float32) for source in sources)
    assert {contents_of(each.folder) for each in (folder, *others)} == {contents_of(sources[2])}
    expected = folder.model.state_dict()
    for backbone in others:
        assert backbone.token_id("<prm>") == folder.token_id("<prm>")
        found = backbone.model.state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_hub_that_does_not_answer_is_told_in_one_line(hub: Path) -> None:
    with pytest.raises(TrainingError, match=r"looked up as a hub id: .*; check --backbone") as caught:
        load_backbone("another-lab/Another-VL", torch.float32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Data processing error: No space left on device (os error 28)"),
    ],
    ids=["Python", "Rust"],
)
def test_a_disk_without_room_for_a_models_files_is_not_called_a_hub_without_the_model(
    error: Exception, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*args: object, **options: object) -> str:  # stands for the hub, which tests cannot reach
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    cache = hub.parents[2]
    words = f"room for {cache}; found No space left on device: .*; free space there, or set HF_HUB_CACHE"
    with pytest.raises(DiskError, match=words):
        load_backbone(HUB_ID, torch.float32)


def test_a_hub_id_that_has_moved_on_is_told_from_what_it_was(qwen: Path, hub: Path) -> None:
    shutil.copytree(qwen, hub)
    before = local_copy(HUB_ID)
    assert revision_of(before) == "0" * 40
    later = hub.with_name("1" * 40)
    write_other_weights(shutil.copytree(qwen, later))
    (hub.parents[1] / "refs" / "main").write_text(later.name)
    after = local_copy(HUB_ID)
    assert revision_of(after) == "1" * 40
    assert contents_of(after) != contents_of(before)
    assert known_as(HUB_ID) == HUB_ID, "only the workers fetch its weights"
    assert revision_of(str(qwen)) is None


def test_contents_are_those_of_what_is_loaded_and_of_nothing_else(qwen: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(qwen, tmp_path / "moved")
    expected = contents_of(str(qwen))
    (folder / "README.md").write_text("read me")
    (folder / "runs").mkdir()
    (folder / "runs" / "config.json").write_text("{}")
    assert contents_of(str(folder)) == contents_of(f"file://{folder}") == expected
    (folder / "tokenizer_config.json").write_text((qwen / "tokenizer_config.json").read_text() + " ")
    changed = contents_of(str(folder))
    assert changed != expected
    write_other_weights(folder)
    assert contents_of(str(folder)) not in (changed, expected)


def test_of_a_large_file_the_size_and_a_piece_in_every_16_mib_are_looked_at(tmp_path: Path) -> None:
    file, size = tmp_path / "model.safetensors", 80 * 2**20
    with file.open("wb") as handle:
        handle.truncate(size)
    seen = {contents_of(str(tmp_path))}
    for place in (0, 32 * 2**20 + 100, 64 * 2**20 + 4095):
        with file.open("r+b") as handle:
            handle.seek(place)
            handle.write(b"x")
        seen.add(contents_of(str(tmp_path)))
    with file.open("r+b") as handle:
        handle.truncate(size + 1)
    seen.add(contents_of(str(tmp_path)))
    assert len(seen) == 5
