"""DeepSpeed between two ranks: no batch of one keeps the other waiting, no stage learns otherwise."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.backbones import build_internvl
from support.forked_workers import ForkServer
from support.two_ranks import CASES, batches, config_of, learned, model_of, on_two_ranks, run

from ray_train.distributed.heartbeat import Beat, HeartbeatMonitor
from ray_train.model.reward import loss_of
from ray_train.model.save import gather_weights
from ray_train.training.optimizer import adamw, deepspeed_config

pytestmark = pytest.mark.slow  # two ranks take a step for each case

WHOLE = {"device": "cpu", "pin_memory": False}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A backbone with tied embeddings, some of it larger than what ZeRO-3 keeps whole on every rank."""
    folder = tmp_path_factory.mktemp("wide")
    build_internvl(folder, tied=True, vocab_size=4096, intermediate_size=2560)
    return str(folder)


@pytest.fixture(scope="module")
def meeting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks") / "meeting"


@pytest.fixture(scope="module")
def of_two_ranks(forks: ForkServer, wide: str, meeting: Path) -> list[list[dict[str, Any]]]:
    """What two processes found in each of the cases."""
    on_two_ranks(forks, run, wide, str(meeting))
    return [json.loads(Path(f"{meeting}-{rank}").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def waits(meeting: Path, of_two_ranks: object) -> list[bool]:
    """Whether each of the two was seen to wait for the other, while the second one slept in its forward."""
    return [json.loads(Path(f"{meeting}-waits-{rank}").read_text())[1] for rank in range(2)]


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: str(CASES[number]))
def test_a_rank_without_an_image_keeps_nobody_waiting_and_the_gradient_is_that_of_one_process(
    number: int, of_two_ranks: list[list[dict[str, Any]]], wide: str
) -> None:
    case, config = CASES[number], config_of(CASES[number])
    backbone, encoder, model = model_of(wide, case)
    losses = [loss_of(config)(model(b.inputs), b) for b in batches(backbone, encoder, case)]
    sum(losses).backward()  # type: ignore[union-attr]
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    for rank, loss in enumerate(losses):
        found = of_two_ranks[rank][number]
        assert found["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
        assert found["norm"] == pytest.approx(float(norm), rel=1e-5)
    adamw(model, config).step()
    first, second = (ranks[number]["learned"] for ranks in of_two_ranks)
    assert second == {}, "the first rank publishes"
    assert first == pytest.approx(learned(gather_weights(model.backbone, 0), wide), rel=1e-2)
    assert first["model.language_model.embed_tokens.weight"] > 0
    assert all(change > 0 for name, change in first.items() if "mlp.up_proj" in name)


def test_zero_1_sends_gradients_once_a_step_and_2_and_3_at_every_micro_step(
    meeting: Path, of_two_ranks: object, wide: str
) -> None:
    _, _, model = model_of(wide, {"packs": True})
    gradients = sum(4 * p.numel() for p in model.parameters() if p.requires_grad)
    for rank in range(2):
        stages = json.loads(Path(f"{meeting}-sent-{rank}").read_text())
        one, two, three = ([summed for summed, _ in stage] for stage in stages)
        assert one == [0, 0, pytest.approx(gradients, rel=0.01)]
        assert two == three == [pytest.approx(gradients, rel=0.01)] * 3
        assert [gathered for stage in stages[:2] for _, gathered in stage] == [0] * 6


def test_of_ranks_between_two_meetings_the_one_is_named_for_which_zero_keeps_the_others_waiting(
    waits: list[bool],
) -> None:
    assert waits == [True, False]
    now = 0.0
    ranks = HeartbeatMonitor(lambda: now)
    for _ in range(40):
        for rank in range(2):
            ranks.beat(
                Beat(rank, f"host{rank}", 9, 3, "ray_train.training.loop._step, line 140", waits[rank])
            )
        now += 1
    found = ranks.stuck(30.0)
    assert found is not None
    assert "host1" in found
    assert "host0" not in found


@pytest.mark.parametrize(
    ("offload", "expected"),
    [
        ("none", {}),
        ("optimizer", {"offload_optimizer": WHOLE}),
        ("parameters", {"offload_optimizer": WHOLE, "offload_param": WHOLE}),
    ],
)
@pytest.mark.parametrize("gpu", [False, True])
def test_what_is_offloaded_lies_in_the_cpus_memory_and_is_pinned_where_there_is_a_gpu(
    gpu: bool, offload: str, expected: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    config = replace(config_of({"zero_stage": 3}), offload=offload)
    zero = deepspeed_config(config)["zero_optimization"]
    assert zero == {"stage": 3, **{name: {**place, "pin_memory": gpu} for name, place in expected.items()}}
