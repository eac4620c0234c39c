"""Two gloo ranks that take a step on batches of different kinds; each case in the same two processes."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bisieve.errors import BisieveError, DiskError, ImageError, TrainingError
from ray_train.checkpoints.state import Cursor, SampleLog
from ray_train.compat.deepspeed import import_deepspeed
from ray_train.config import TrainConfig
from ray_train.data.encode import Encoder, Sample, make_encoder
from ray_train.data.loader import Prefetcher
from ray_train.data.packing import make_packer
from ray_train.data.sampler import BatchPlan
from ray_train.data.token_estimate import TokenEstimate
from ray_train.distributed.collectives import check_agreed, collectives_entered
from ray_train.distributed.heartbeat import whereabouts
from ray_train.model.backbone import Backbone, load_backbone, train_only
from ray_train.model.lora import add_adapters
from ray_train.model.packed_attention import read_packs
from ray_train.model.prompt_format import PromptFormat
from ray_train.model.reward import Batch, RewardModel, loss_of, reward_model
from ray_train.model.save import gather_weights
from ray_train.training.loop import Training
from ray_train.training.optimizer import DivergenceGuard, deepspeed_config, make_engine
from support.forked_workers import ForkServer

PICTURE = [
    Sample(k, [Image.linear_gradient("L").convert("RGB")], "What?", ["We look.", "So."], [1.0, 0.0])
    for k in range(2)
]
TEXT = [Sample(k, [], "Why?", ["We think."] * k, [1.0] * k) for k in (1, 3)]
MC = 16  # N of every step, where it is asked for
SECOND_RANK = {"text alone": TEXT, "nothing": []}
CASES = [
    {"packs": packs, "second": second, "zero_stage": 3} for packs in (False, True) for second in SECOND_RANK
] + [
    {"packs": True, "second": "text alone", "zero_stage": 3, "offload": "parameters"},
    {"packs": True, "second": "text alone", "zero_stage": 2, "offload": "optimizer"},
    {"packs": True, "second": "text alone", "zero_stage": 3, "lora_rank": 4},
    {"packs": True, "second": "text alone", "zero_stage": 3, "lora_rank": 4, "objective": "beta-binomial"},
    {"packs": False, "second": "nothing", "zero_stage": 2, "lora_rank": 4, "objective": "beta-binomial"},
]

PLAN = BatchPlan("cut", 12, (), 0, 1, 4, np.repeat(np.arange(6), 2), True)
OTHER_PLANS: dict[str, dict[str, Any]] = {  # what the second rank's has of its own, by what both are to find
    "": {}, "number of steps": {"epochs": 2}, "order of the rollouts": {"seed": 1},
    "global batch": {"global_batch": 5},
    "estimated tokens of the rollouts": {"tokens": TokenEstimate.equal(12)},
}  # fmt: skip


def model_of(folder: str, case: dict[str, Any]) -> tuple[Backbone, Encoder, RewardModel]:
    """What a case trains, with its adapters and its head."""
    config = config_of(case)
    backbone = load_backbone(folder, torch.float32)
    train_only(backbone.model, backbone.family, ("vision", "projector", "language"))
    if config.lora_rank:
        add_adapters(backbone, config)
    if case["packs"]:
        read_packs(backbone.model)
    slot = backbone.family.image_slot(backbone.processor.tokenizer)
    encoder = make_encoder(backbone, PromptFormat(slot, backbone.family.image_options(1)), 4096)
    model = reward_model(backbone, encoder.format, with_kappa=config.objective == "beta-binomial")
    if model.kappa is not None:  # as it begins it is the same whatever it reads
        torch.nn.init.normal_(model.kappa.weight, generator=torch.Generator().manual_seed(0))
    return backbone, encoder, model


def batches(backbone: Backbone, encoder: Encoder, case: dict[str, Any]) -> Iterator[Batch]:
    """What each rank trains on."""
    counted = config_of(case).objective == "beta-binomial"
    for chosen in (PICTURE, SECOND_RANK[case["second"]]):
        samples = [replace(s, totals=[MC] * len(s.steps)) for s in chosen] if counted else chosen
        if case["packs"]:
            (pack,) = make_packer(backbone, encoder, 4096).packs([samples] if samples else [])
            yield pack
        else:
            yield encoder.encode(samples)


def one_step(rank: int, folder: str, case: dict[str, Any]) -> dict[str, Any]:
    """The loss of a rank's batch, the norm of the gradient of both ranks' batches, and what it changed."""
    backbone, encoder, model = model_of(folder, case)
    batch = list(batches(backbone, encoder, case))[rank]
    engine = make_engine(model, config_of(case))
    loss = loss_of(config_of(case))(engine(batch.inputs), batch)
    engine.backward(loss * dist.get_world_size(), scale_wrt_gas=False)
    engine.step()
    return {
        "loss": float(loss.detach()), "norm": float(engine.get_global_grad_norm()),
        "learned": learned(gather_weights(engine.module.backbone, rank), folder),
    }  # fmt: skip


class Sent(TorchDispatchMode):
    """Count the bytes of the tensors that collectives work on, those they sum and those they gather."""

    def __init__(self) -> None:
        super().__init__()
        self.summed = self.gathered = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            leaves = ([leaf for leaf in tree_leaves(arg) if torch.is_tensor(leaf)] for arg in args[:2])
            size = max(sum(leaf.nbytes for leaf in tensors) for tensors in leaves)  # of inputs or outputs
            if "reduce" in func.name():
                self.summed += size
            elif "gather" in func.name():
                self.gathered += size
        return func(*args, **(kwargs or {}))


def sent(rank: int, folder: str, stage: int) -> list[tuple[int, int]]:
    """Return the bytes that are summed and gathered in each of the three micro-steps of a step."""
    case = {"packs": True, "second": "text alone", "zero_stage": stage}
    backbone, encoder, model = model_of(folder, case)
    batch = list(batches(backbone, encoder, case))[rank]
    engine = make_engine(model, config_of(case))
    found = []
    for place in range(3):
        engine.set_gradient_accumulation_boundary(place == 2)
        with Sent() as counted:
            loss = loss_of(config_of(case))(engine(batch.inputs), batch)
            engine.backward(loss, scale_wrt_gas=False)
        found.append((counted.summed, counted.gathered))
    engine.step()
    return found


def learned(weights: dict[str, torch.Tensor], folder: str) -> dict[str, float]:
    """By how much the numbers of each of a plain model's ``weights`` differ from those in ``folder``."""
    start = dict(load_backbone(folder, torch.float32).model.named_parameters()) if weights else {}
    return {name: float((weights[name] - tensor.detach()).abs().sum()) for name, tensor in start.items()}


def config_of(case: dict[str, Any]) -> TrainConfig:
    options = {name: value for name, value in case.items() if name not in ("packs", "second")}
    return TrainConfig(index="", image_root="", backbone="", output="", precision="fp32", clip=1e6,
                       learning_rate=1e-2, **options)  # fmt: skip


def hang(rank: int, meeting: str) -> None:
    """The second rank sleeps in its forward, where the first one waits for it; both note how they stand."""
    noted = [Path(f"{meeting}-waits-{rank}") for rank in range(2)]

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(512, 512)  # so large that ZeRO-3 shares it out

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            if rank == 1:
                noted[1].write_text(json.dumps(whereabouts(threading.get_ident())))
                while not noted[0].exists():
                    time.sleep(0.01)
            return self.layer(inputs)  # type: ignore[no-any-return]

    def watch(thread: int) -> None:
        for _ in range(100):
            time.sleep(0.1)
            if noted[1].exists() and whereabouts(thread)[1]:
                break
        time.sleep(0.2)  # it is no collective that ends
        noted[0].write_text(json.dumps(whereabouts(thread)))

    model, config = Model(), deepspeed_config(config_of({"zero_stage": 3}))
    engine, *_ = import_deepspeed().initialize(
        model=model, optimizer=torch.optim.AdamW(model.parameters()), config=config, dist_init_required=False
    )
    if rank == 0:
        threading.Thread(target=watch, args=(threading.get_ident(),)).start()
    engine(torch.zeros(1, 512))


@contextmanager
def group(rank: int, meeting: str) -> Iterator[None]:
    """Both processes as one group, which meets at a file."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}  # DeepSpeed looks here
    dist.init_process_group(
        "gloo", f"file://{meeting}", rank=rank, world_size=2, timeout=timedelta(minutes=2)
    )
    yield
    dist.destroy_process_group()


def run(rank: int, folder: str, meeting: str) -> None:
    """One of the two processes; leaves what each case gave beside the file at which they meet."""
    with group(rank, meeting):
        found = [one_step(rank, folder, case) for case in CASES]
        Path(f"{meeting}-{rank}").write_text(json.dumps(found))
        Path(f"{meeting}-sent-{rank}").write_text(
            json.dumps([sent(rank, folder, stage) for stage in (1, 2, 3)])
        )
        hang(rank, meeting)


def on_two_ranks(forks: ForkServer, work: Callable[..., None], *arguments: str) -> None:
    """Run ``work``, a function of this module, as each of two ranks, in forks of the server."""
    name, tests = work.__name__, str(Path(__file__).parents[1])
    code = f"import sys; sys.path[0] = {tests!r}; from support.two_ranks import {name} as work"
    ranks = [
        subprocess.Popen(
            forks.program("-c", f"{code}; work({rank}, *sys.argv[1:])", *arguments),
            env=os.environ | forks.environment,
        )
        for rank in range(2)
    ]
    assert [rank.wait() for rank in ranks] == [0, 0]


def by_case(forks: ForkServer, work: Callable[[int, str], None], meeting: Path) -> list[list[Any]]:
    """Run ``work`` in two processes, which each leave a list; return both items by case."""
    on_two_ranks(forks, work, str(meeting))
    ranks = (json.loads(Path(f"{meeting}-{rank}").read_text()) for rank in range(2))
    return [list(case) for case in zip(*ranks, strict=True)]


def compare_plans(rank: int, meeting: str) -> None:
    """One of the two processes; leaves what it was told of each pair of plans, nothing where they agree."""
    with group(rank, meeting):
        told = []
        for others in OTHER_PLANS.values():
            before = collectives_entered()
            try:
                check_agreed((replace(PLAN, **others) if rank else PLAN).facts())
                told.append(["", collectives_entered() - before])
            except TrainingError as error:
                told.append([str(error), collectives_entered() - before])
        Path(f"{meeting}-{rank}").write_text(json.dumps(told))


# Which rank meets an error in its second step, and where; both have met another in the last case.
STEP_ERRORS = [{0: "batch"}, {1: "batch"}, {1: "sample log"}, {0: "sample log", 1: "batch"}]


class NoUpdate:
    """A model that answers nothing; it tells how often it was updated."""

    def __init__(self) -> None:
        self.updates = 0
        self.optimizer = SimpleNamespace(param_groups=[])

    def __call__(self, inputs: dict[str, Any]) -> torch.Tensor:
        return torch.zeros(1)

    def set_gradient_accumulation_boundary(self, is_boundary: bool) -> None:
        """Nothing is accumulated."""

    def backward(self, loss: torch.Tensor, scale_wrt_gas: bool) -> None:
        """Nothing is learned."""

    def step(self) -> None:
        self.updates += 1

    def get_global_grad_norm(self) -> float:
        return 0.0


def steps_with_error(rank: int, found: str) -> tuple[str, str, int]:
    """Return what ends the second step of a rank which finds an error there, and the updates before."""
    one = torch.ones(1)
    batch = Batch({}, one, one, one.long(), [1], [rank], 0, 0, last=True)

    def batches() -> Iterator[Batch]:
        yield batch
        yield replace(batch, last=False)  # the others need only one in a step: it waits for this rank
        if found == "batch":
            raise ImageError("an image", f"none by rank {rank}", "look")
        yield replace(batch, rows=[])

    training: Any = Training.__new__(Training)
    training.rank = SimpleNamespace(
        engine=NoUpdate(), number=rank, world_size=2, device=torch.device("cpu"), drop_path=None,
        targets=SimpleNamespace(mass=np.ones(12)),
        selection=SimpleNamespace(rows=pa.table({"rollout_id": [str(row) for row in range(12)]})),
    )  # fmt: skip
    training.job = SimpleNamespace(plan=PLAN, config=config_of({}))
    training.pulse = SimpleNamespace()
    training.guard = DivergenceGuard(
        training.rank.selection.rows["rollout_id"], "memory://run", 0.0, 1e6, rank
    )
    training.meter = SimpleNamespace(start=lambda: None, add=lambda batch: None, read=dict)
    training.preemption = SimpleNamespace(counts=dict, update=lambda totals: None)
    training.loss = lambda answers, batch: one.sum()
    training.cursor, training.log = Cursor({}), SampleLog(rank, 0)
    prefetcher = Prefetcher(batches(), batch)
    try:
        training._step(prefetcher)
        if found == "sample log":
            training.log.error = DiskError("room", f"none by rank {rank}", "free some")
        training._step(prefetcher)
    except BisieveError as error:
        return type(error).__name__, str(error), training.rank.engine.updates
    finally:
        prefetcher.close()
        training.log.close()
    return "nothing", "", training.rank.engine.updates


def meet_errors(rank: int, meeting: str) -> None:
    """One of the two processes; leaves how each of `STEP_ERRORS` ended."""
    with group(rank, meeting):
        ends = [steps_with_error(rank, places.get(rank, "")) for places in [*STEP_ERRORS, {}]]
        Path(f"{meeting}-{rank}").write_text(json.dumps(ends))
