"""Checkpoints without Ray: what they hold, when they are whole, which are kept, how they get to a store."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support.faulty_proxy import FaultyProxy

from bisieve.errors import StorageError, TrainingError
from ray_train.checkpoints.manager import CheckpointManager, kept, remove_others, run_storage, upload_part
from ray_train.checkpoints.state import Cursor, SampleLog, is_whole, read_cursor, restore, write_part
from ray_train.compat.deepspeed import KINDS, Fragment, fragments, steps_done
from ray_train.config import TrainConfig
from ray_train.data.encode import Sample, make_encoder
from ray_train.model.prompt_format import PromptFormat
from ray_train.model.reward import reward_loss, reward_model
from ray_train.training.optimizer import make_engine
from ray_train.training.worker import trainable_backbone

Settings = Callable[..., TrainConfig]


class Trainer:
    """An engine with something to learn, the same at every step of the same number."""

    def __init__(self, config: TrainConfig) -> None:
        backbone = trainable_backbone(dataclasses.replace(config, pack_tokens=0))
        slot = backbone.family.image_slot(backbone.processor.tokenizer)
        format = PromptFormat(slot, backbone.family.image_options(1))
        self.encoder = make_encoder(backbone, format, 512)
        self.engine = make_engine(reward_model(backbone, format), config)

    def step(self, number: int) -> None:
        image = Image.new("RGB", (28, 28), (number, 9, 9))
        batch = self.encoder.encode([Sample(number, [image], f"{number}?", ["a", "b"], [1.0, 0.0])])
        self.engine.set_gradient_accumulation_boundary(True)
        loss = reward_loss(self.engine(batch.inputs), batch.labels, batch.weights)
        self.engine.backward(loss, scale_wrt_gas=False)
        self.engine.step()

    def state(self) -> dict[str, torch.Tensor]:
        pieces = fragments(self.engine)
        return {f"{piece.name} {kind}": piece.tensor(kind).clone() for piece in pieces for kind in KINDS}


@pytest.fixture
def log() -> Iterator[SampleLog]:
    log = SampleLog(0, 0)
    log.add(0, [4, 2], ["d", "b"], 0.5)
    yield log
    log.close()


@pytest.mark.parametrize(
    ("options", "others"),
    [
        ({"zero_stage": 2}, {"zero_stage": 3}),
        ({"zero_stage": 3, "offload": "parameters"}, {"zero_stage": 1}),
        ({"zero_stage": 2, "offload": "optimizer", "lora_rank": 2}, {"zero_stage": 3, "lora_rank": 2}),
    ],
    ids=["ZeRO 2 to 3", "ZeRO 3 on the CPU to 1", "adapters, ZeRO 2 on the CPU to 3"],
)
def test_three_ranks_of_one_zero_stage_go_on_as_one_of_another(
    options: dict[str, Any], others: dict[str, Any], alone: None, settings: Settings, log: SampleLog,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    before = Trainer(settings(**options))
    before.step(0)
    before.step(1)
    for rank in range(3):
        pieces = share(fragments(before.engine), rank)
        monkeypatch.setattr("ray_train.checkpoints.state.fragments", lambda engine, pieces=pieces: pieces)
        part = write_part(before.engine, Cursor({"seed": 0}, step=2), log, rank, 3, {})
        shutil.copytree(part, tmp_path / "checkpoint", dirs_exist_ok=True)
        shutil.rmtree(part)
    monkeypatch.undo()
    assert is_whole(str(tmp_path / "checkpoint"))
    after = Trainer(settings(**others))
    restore(after.engine, str(tmp_path / "checkpoint"))
    assert steps_done(after.engine) == 2
    torch.testing.assert_close(after.state(), before.state(), rtol=0, atol=0)
    before.step(2)
    after.step(2)
    torch.testing.assert_close(after.state(), before.state())


def share(pieces: list[Fragment], rank: int) -> list[Fragment]:
    """The third of each piece that ``rank`` would have."""
    shares = []
    for piece in pieces:
        start, end = (piece.size * bound // 3 for bound in (rank, rank + 1))

        def tensor(kind: str, piece: Fragment = piece, start: int = start, end: int = end) -> torch.Tensor:
            return piece.tensor(kind)[start:end]

        if end > start:
            shares.append(Fragment(piece.name, piece.start + start, end - start, tensor))
    return shares


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """What two ranks write, the tensors apart."""
    folder = tmp_path / "checkpoint_1"
    (folder / "samples").mkdir(parents=True)
    (folder / "cursor.json").write_text(json.dumps(dataclasses.asdict(Cursor({"seed": 0}, step=4))))
    for rank in range(2):
        files = {f"rank-{rank}.safetensors": 5, f"samples/{rank}.jsonl": 3}
        for name, size in files.items():
            (folder / name).write_bytes(b"x" * size)
        (folder / f"part-{rank:05d}-of-00002.json").write_text(json.dumps({"files": files}))
    return folder


@pytest.mark.parametrize(
    "torn", ["rank-1.safetensors", "samples/0.jsonl", "part-00000-of-00002.json", "part-00001-of-00002.json"]
)
def test_a_torn_checkpoint_is_not_whole(torn: str, checkpoint: Path) -> None:
    assert is_whole(str(checkpoint))
    whole = (checkpoint / torn).read_bytes()
    (checkpoint / torn).write_bytes(whole[:-1])
    assert not is_whole(str(checkpoint))
    (checkpoint / torn).unlink()
    assert not is_whole(str(checkpoint))
    assert not is_whole(str(checkpoint / "nowhere"))


def test_a_run_goes_on_from_the_last_checkpoint_that_is_whole(
    alone: None, checkpoint: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = checkpoint.parent / "output" / "runs" / "run"
    for name in ("checkpoint_1", "checkpoint_2", "checkpoint_uncommitted"):
        shutil.copytree(checkpoint, run / name)
    keeper = CheckpointManager(settings(), "run", print)
    committed: list[tuple[str, dict[str, float]]] = []
    monkeypatch.setattr("ray_train.checkpoints.manager._committed", lambda: committed)
    assert keeper.newest() is None
    committed += [("checkpoint_1", {}), ("checkpoint_2", {})]
    assert keeper.newest() == str(run / "checkpoint_2")
    (run / "checkpoint_2" / "rank-0.safetensors").write_bytes(b"torn")
    assert keeper.newest() == str(run / "checkpoint_1")
    (run / "checkpoint_1" / "part-00000-of-00002.json").unlink()
    with pytest.raises(TrainingError, match=r"only incomplete ones; .*--restart"):
        keeper.newest()


def whole(name: str) -> bool:
    return True


def test_the_last_ones_and_the_best_one_are_kept() -> None:
    plain: list[tuple[str, dict[str, float]]] = [("a", {}), ("b", {"loss": 0.1}), ("c", {}), ("d", {})]
    assert kept(plain, 2, whole) == {"c", "d"}
    validated = [(name, {"validation_loss": loss}) for name, loss in zip("abcd", (3, 1, 2, 4), strict=True)]
    assert kept(validated, 1, whole) == {"b", "d"}
    assert kept(validated, 3, whole) == {"b", "c", "d"}
    assert kept([], 2, whole) == set()
    spoilt = [("a", {"validation_loss": float("nan")}), *validated]
    assert kept(spoilt, 1, whole) == {"b", "d"}, "a loss that is no number is never the best"


def test_a_torn_checkpoint_takes_no_place_among_those_that_are_kept() -> None:
    validated = [(name, {"validation_loss": loss}) for name, loss in zip("abcd", (2, 1, 3, 4), strict=True)]
    assert kept(validated, 1, lambda name: name != "d") == {"b", "c"}
    assert kept(validated, 2, lambda name: name in "ad") == {"a", "d"}
    assert kept(validated, 2, lambda name: False) == set()


def test_what_a_run_would_go_on_from_outlives_a_torn_last_checkpoint(
    alone: None, checkpoint: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = checkpoint.parent / "output" / "runs" / "run"
    names = ["checkpoint_1", "checkpoint_2", "checkpoint_3"]
    for name in names:
        shutil.copytree(checkpoint, run / name)
    (run / "checkpoint_3" / "rank-0.safetensors").write_bytes(b"torn")
    monkeypatch.setattr("ray_train.checkpoints.manager._committed", lambda: [(name, {}) for name in names])
    keeper = CheckpointManager(settings(keep_checkpoints=1), "run", print)
    keeper.settle()
    assert keeper.newest() == str(run / "checkpoint_2")
    assert [path.name for path in (run / "checkpoint_3").iterdir()] == ["cursor.json"]


def test_of_a_committed_checkpoint_that_is_not_kept_the_cursor_stays_and_of_a_torn_one_nothing(
    checkpoint: Path,
) -> None:
    run = checkpoint.parent
    for name in ("checkpoint_2", "checkpoint_torn"):
        shutil.copytree(checkpoint, run / name)
    (run / "checkpoint_manager_snapshot.json").write_text("{}")
    committed: list[tuple[str, dict[str, float]]] = [("checkpoint_1", {}), ("checkpoint_2", {})]
    remove_others(str(run), committed, {"checkpoint_2"})
    assert [path.name for path in checkpoint.iterdir()] == ["cursor.json"]
    assert is_whole(str(run / "checkpoint_2"))
    assert not list(run.glob("checkpoint_torn/*"))
    assert (run / "checkpoint_manager_snapshot.json").exists()


def test_a_part_gets_to_a_store_that_fails_again_and_again_its_list_last(
    s3: str, faulty_s3: FaultyProxy, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{s3}/faulty/checkpoint"
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # of the layers below: no patience of their own
    faulty_s3.harm_first_puts("cursor", "part-00001")
    upload_part(checkpoint, url, budget=60)
    faulty = faulty_s3.faults()
    assert faulty["503"]
    assert faulty["reset"]
    put = [passed.path for passed in faulty_s3.passed if passed.method == "PUT" and not passed.fault]
    assert "part-" in put[-1]
    faulty_s3.calm()
    assert is_whole(url)
    assert read_cursor(url).step == 4


def test_a_store_that_refuses_past_the_budget_is_an_error(
    s3: str, faulty_s3: FaultyProxy, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    faulty_s3.harm(1.0, ["reset"], only=lambda method, path: method in ("PUT", "POST"))
    with pytest.raises(StorageError, match="a response from the store"):
        upload_part(checkpoint, f"{s3}/refused/checkpoint", budget=0)
    faulty_s3.calm()
    assert not is_whole(f"{s3}/refused/checkpoint")


def test_what_ray_writes_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    place = run_storage(str(tmp_path))
    file = place["storage_path"] + "/snapshot.json"
    with place["storage_filesystem"].open_output_stream(file) as first:
        first.write(b"first")
    second = place["storage_filesystem"].open_output_stream(file)
    second.write(b"sec")
    second.flush()
    assert Path(file).read_bytes() == b"first"
    second.write(b"ond")
    second.close()
    assert place["storage_filesystem"].open_input_stream(file).read() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["snapshot.json"]
