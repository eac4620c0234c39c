"""Options of a training run, each a flag and a key of a TOML file.

The default hyper-parameters are those of the paper's appendix C. Where the paper's code differs
from these in what is learned, ``--recipe paper`` sets what the code does (docs/reference/paper.md).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from bisieve.errors import UsageError
from bisieve.ranking.strategies import strategy_names
from bisieve.records.options import ALL_NEGATIVE, AUTO, TIES, parse_fraction
from ray_train.choices import (
    ADAPTERS,
    AS_INDEX,
    BETA_BINOMIAL,
    DEVICES,
    HARD_LABELS,
    OBJECTIVES,
    RECIPES,
    ROWS,
    UNIFORM,
    VALIDATION,
    Workers,
    check_selection_options,
    chosen_trackers,
    column_of,
    is_system,
    number_or,
    require_an_effect,
    seed_or_index,
    selection_options,
    strategy_or_index,
    workers,
)
from ray_train.config_io import option, require, with_presets

SYSTEMS = "family, none, or a text without tokens of the chat"
IMAGE_BACKENDS = ("pil", "torchvision")


def stage_number(given: str | int) -> int:
    """Parse a ZeRO stage; return 0 for ``auto``.

    Raises:
        ValueError: It is neither ``auto`` nor 0, 1, 2 or 3.
    """
    stages = {"auto": 0, "0": 0, "1": 1, "2": 2, "3": 3}
    if isinstance(given, bool) or str(given) not in stages:
        raise ValueError(f"neither auto nor one of 1, 2 and 3: {given!r}")
    return stages[str(given)]


stage_number.__name__ = "stage, one of auto, 1, 2 and 3,"  # shown by argparse


@with_presets
@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of a training run."""

    # Titles of the groups of options in --help, each by its first option.
    GROUPS: ClassVar[dict[str, str]] = {
        "index": "what is trained on, and where",
        "workers": "machines and memory",
        "train_vision": "which weights are trained",
        "epochs": "batches and prompts",
        "objective": "objective",
        "data_workers": "data",
        "learning_rate": "optimizer",
        "track": "running, saving and resuming",
        "validation_fraction": "validation and checks",
    }

    index: str = option("URL of the ranked index", location="url", identity=False)
    index_version: str = option(
        "first digits of the fingerprint of the index version; default: the current version",
        "",
        identity=False,
    )
    image_root: str = option("URL below which the images of the rollouts are", location="url", identity=False)
    backbone: str = option(
        "hub id, folder or URL of the vision-language model to start from", location="model", identity=False
    )
    output: str = option(
        "URL of the folder that gets the trained model and its run", location="url", identity=False
    )
    fraction: float = option(
        "share of the rollouts to train on, best first: in (0, 1], or in percent", 0.25, parse=parse_fraction
    )
    strategy: str = option(
        f"selection by {', '.join(strategy_names())}; this and the next six default to what the index has",
        AS_INDEX, parse=strategy_or_index, identity=False,
    )  # fmt: skip
    alpha: str = option(
        "α of the selection's score; auto: the smallest one without a shortcut",
        AS_INDEX, parse=number_or(AS_INDEX, AUTO), identity=False,
    )  # fmt: skip
    threshold: str = option(
        "the selection counts a step as positive above this MC score",
        AS_INDEX, parse=number_or(AS_INDEX), identity=False,
    )  # fmt: skip
    pair_share: str = option(
        "share of the mixed rollouts that get a partner, with --strategy paired",
        AS_INDEX, parse=number_or(AS_INDEX), identity=False,
    )  # fmt: skip
    ties: str = option("order of equal rollouts", AS_INDEX, choices=(AS_INDEX, *TIES), identity=False)
    all_negative: str = option(
        "rollouts without a positive step: ranked as others, last, or never selected",
        AS_INDEX, choices=(AS_INDEX, *ALL_NEGATIVE), identity=False,
    )  # fmt: skip
    selection_seed: str = option(
        "seed of what is random in the selection, such as all of --strategy random",
        AS_INDEX, parse=seed_or_index, identity=False,
    )  # fmt: skip
    exclude: str = option(
        "file with the ids of rollouts that are left out: text, one rollout_id a line",
        "", location="url", identity=False,
    )  # fmt: skip
    recipe: str = option(
        "paper: use the settings of the paper's code for options not given, see docs/reference/paper.md",
        "bisieve", choices=tuple(RECIPES), presets=RECIPES, identity=False,
    )  # fmt: skip

    workers: Workers = option(
        "Ray Train workers, one GPU each where there are GPUs; 2-8: as many of these as the cluster has",
        Workers(2, 2), parse=workers, identity=False,
    )  # fmt: skip
    device: str = option(
        "what a worker computes on; auto: a GPU where there are any", "auto", DEVICES, identity=False
    )
    zero_stage: int = option(
        "DeepSpeed ZeRO stage: 1, 2, 3; auto (0): the one that sends least and fits --device-memory, else 3",
        0, parse=stage_number, identity=False,
    )  # fmt: skip
    device_memory: float = option(
        "GB of memory a GPU has; 0: as those of this machine or cluster, if known",
        0.0,
        identity=False,
    )
    offload: str = option(
        "what is kept in CPU memory: AdamW's state and step (ZeRO 2, 3), or also the parameters (ZeRO 3)",
        "none", choices=("none", "optimizer", "parameters"), identity=False,
    )  # fmt: skip
    precision: str = option("number format of the forward pass", "auto", choices=("auto", "bf16", "fp32"))
    gradient_checkpointing: bool = option(
        "compute activations twice and keep fewer of them", True, identity=False
    )
    train_vision: bool = option("train the vision encoder", False)
    train_projector: bool = option("train the projector between vision encoder and language model", True)
    train_language: bool = option("train the language model", True)
    lora_rank: int = option("train the language model through LoRA adapters of this rank; 0: all of it", 0)
    lora_alpha: int = option("scale of the adapters' output is lora_alpha / lora_rank", 32, needs=ADAPTERS)
    lora_dropout: float = option("share of an adapter's inputs that is dropped", 0.0, needs=ADAPTERS)

    epochs: int = option("passes over the selection", 1)
    global_batch: int = option("rollouts an optimizer step sees, over all workers", 512)
    pack_tokens: int = option(
        "tokens a worker packs into one sequence, a prompt once; 0: no packs", 8192, identity=False
    )
    micro_batch: int = option(
        "rollouts a worker puts through the model at once, with --pack-tokens 0",
        2,
        needs=ROWS,
        identity=False,
    )
    prompts_together: bool = option(
        "the rollouts of a prompt come in the same batch; the paper's order is --no-prompts-together", True
    )
    drop_last: bool = option("leave out an epoch's last batch where it is smaller", False, added_later=True)
    max_length: int = option("tokens a rollout may have; a longer one loses whole trailing steps", 8192)
    max_tiles: int = option(
        "most tiles of a rollout's images (Qwen: size in tiles); 0: 6 for InternVL as in the paper, else 1",
        0,
    )
    image_backend: str = option("library that makes the pixels", "pil", choices=IMAGE_BACKENDS)
    system: str = option(
        "system turn in front of a text; family: the model family's own, or none", "family", identity=False
    )
    objective: str = option(
        "training objective of a step: its hard label, its soft label, or its counts by a Beta-Binomial",
        "hard", OBJECTIVES,
    )  # fmt: skip
    label_threshold: float = option(
        "hard, and validation's F1: a step is positive when its MC score is above this", 0.0,
        needs=HARD_LABELS,
    )  # fmt: skip
    evidence_weight: float = option(
        "beta-binomial: λ, what the evidence term weighs", 0.05, needs=BETA_BINOMIAL
    )
    kappa_rate: float = option(
        "beta-binomial: the κ head's learning rate, in times of the others'", 10.0, needs=BETA_BINOMIAL
    )
    loss_mean: str = option(
        "the loss is the mean over a batch's steps, or the mean of the means of its pairs of rollouts",
        "batch", choices=("batch", "pair"), added_later=True,
    )  # fmt: skip
    rollout_weights: str = option("uniform, bis, reliability or URL.parquet:COLUMN", UNIFORM, identity=False)
    seed: int = option("seed of the order of the rollouts, of what is held out and of dropout", 0)

    data_workers: int = option(
        "processes a worker has for images and text; 0: none, -1: by its CPUs", -1, identity=False
    )
    image_cache_gb: float = option(
        "GB of a machine's disk for images of a store; 0: no cache", 10.0, identity=False
    )
    skip_broken_images: int = option(
        "tolerate this many broken images and leave out their rollouts", 0, identity=False
    )

    learning_rate: float = option("peak learning rate of AdamW", 1e-5)
    warmup: float = option("share of the steps in which the learning rate rises; then a cosine to 0", 0.05)
    start_at_zero: bool = option(
        "the first step's learning rate is 0, the warm-up one step behind", False, added_later=True
    )
    weight_decay: float = option("AdamW's weight decay", 0.05)
    decayed: str = option(
        "parameters on which weight decay acts", "matrices", choices=("matrices", "all"), added_later=True
    )
    drop_path: float = option(
        "InternVL: share of the tiles that skip the vision encoder's last layer in training; "
        "fewer skip an earlier one", 0.0, added_later=True,
    )  # fmt: skip
    beta1: float = option("AdamW's first beta", 0.9)
    beta2: float = option("AdamW's second beta", 0.999)
    epsilon: float = option("AdamW's epsilon", 1e-8)
    clip: float = option("largest norm of the gradient", 1.0)

    track: str = option(
        "curves: tensorboard, mlflow, wandb, several by comma, or none", "tensorboard", identity=False
    )
    peak_flops: float = option(
        "FLOP/s of a device, for MFU and hours; 0: its bf16 peak, if known", 0.0, identity=False
    )
    checkpoint_every: int = option("steps from one checkpoint to the next", 50, identity=False)
    keep_checkpoints: int = option(
        "checkpoints kept: the last ones, and the best one of a validated run", 2, identity=False
    )
    storage_budget: int = option(
        "seconds for which a checkpoint or model that a store refuses is tried again",
        600,
        identity=False,
    )
    max_failures: int = option(
        "how often a run with killed workers is resumed from its last checkpoint", 3, identity=False
    )
    stuck_after: float = option(
        "seconds without progress after which the rank at fault is named; 0: never",
        1800.0,
        identity=False,
    )
    log_every: int = option("steps from one progress line to the next", 1, identity=False)
    skip_missing_images: bool = option(
        "leave out rollouts whose images are missing, and count them", False, identity=False
    )
    check_images: bool = option(
        "read the header of every image before anything starts", False, identity=False
    )
    restart: bool = option(
        "forget an unfinished run, or replace a finished model, at the output", False, identity=False
    )

    validation_fraction: float = option("share of the prompts held out of training, in [0, 1)", 0.0)
    validate_every: int = option(
        "steps from one validation on the held-out prompts to the next",
        50,
        needs=VALIDATION,
        identity=False,
    )
    explode_above: float = option(
        "stop at a gradient this many times its usual norm; 0: never", 100.0, identity=False
    )
    deterministic: bool = option("the same bits in every run on the same machines; slower", False)
    dry_run: bool = option("print what the run would do and cost; write nothing", False, identity=False)
    mfu: float = option(
        "share of --peak-flops that training reaches, for --dry-run's hours", 0.4, identity=False
    )

    @property
    def ranking(self) -> dict[str, Any]:
        """Options of the selection that differ from those that the index is ranked by, by name."""
        return selection_options(self)

    @property
    def trained_parts(self) -> list[str]:
        """Parts of the backbone that are trained: some of vision, projector and language."""
        return [part for part in ("vision", "projector", "language") if getattr(self, f"train_{part}")]

    @property
    def resume_hint(self) -> str:
        """Text that tells how to resume this run; a command with ``--restart`` would start it over."""
        return "run the same command again" + (" without --restart" if self.restart else "")

    def check(self) -> None:
        """Check the values of all options.

        Raises:
            UsageError: A value is out of range, or an option would have no effect.
        """
        if not self.trained_parts:
            raise UsageError(
                "a part of the model to train", "none", "give --train-language or another --train-"
            )
        parse_fraction(self.fraction)
        check_selection_options(self)
        require(self.workers.least >= 1, "workers", str(self.workers), "1 or more, or a range such as 2-8,")
        # While requests to a store are retried, no rank makes progress.
        patient = self.stuck_after == 0 or self.stuck_after > self.storage_budget
        require(patient, "stuck_after", self.stuck_after, "0, or more than --storage-budget")
        least_stage = {"none": 1, "optimizer": 2, "parameters": 3}[self.offload]
        require(self.zero_stage == 0 or self.zero_stage >= least_stage, "zero_stage", self.zero_stage,
                f"auto, or {least_stage} or more, with --offload {self.offload},")  # fmt: skip
        for name in ("epochs", "global_batch", "micro_batch", "max_length"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer of 1 or more")
        for name in ("checkpoint_every", "validate_every", "log_every", "keep_checkpoints"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer of 1 or more")
        require(is_system(self.system), "system", self.system, SYSTEMS)
        for name in ("pack_tokens", "max_tiles"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(self.device_memory >= 0, "device_memory", self.device_memory, "a number of 0 or more")
        require(self.data_workers >= -1, "data_workers", self.data_workers, "0 or more, or -1")
        require(self.skip_broken_images >= 0, "skip_broken_images", self.skip_broken_images, "0 or more")
        found = self.image_cache_gb
        require(0 <= found < 1e9, "image_cache_gb", found, "a number of 0 or more")
        require(0 <= self.warmup <= 1, "warmup", self.warmup, "a number in [0, 1]")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        for name in ("clip", "epsilon"):
            require(getattr(self, name) > 0, name, getattr(self, name), "a number above 0")
        for name in ("beta1", "beta2", "label_threshold"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a number in [0, 1)")
        for name in ("weight_decay", "evidence_weight", "lora_rank"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "a number of 0 or more")
        for name in ("kappa_rate", "lora_alpha"):
            require(getattr(self, name) > 0, name, getattr(self, name), "a number above 0")
        needless = self.lora_rank and not self.train_language
        require(not needless, "lora_rank", self.lora_rank, "0 with --no-train-language")
        for name in ("lora_dropout", "drop_path"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a number in [0, 1)")
        column_of(self.rollout_weights)
        require(0 <= self.seed < 2**63, "seed", self.seed, "an integer from 0 to 2⁶³ − 1")
        chosen_trackers(self.track)
        require(self.peak_flops >= 0, "peak_flops", self.peak_flops, "a number of 0 or more")
        require(self.storage_budget >= 0, "storage_budget", self.storage_budget, "0 or more")
        held_out, explode = self.validation_fraction, self.explode_above
        require(0 <= held_out < 1, "validation_fraction", held_out, "a number in [0, 1)")
        require(explode == 0 or explode > 1, "explode_above", explode, "0, or a number above 1")
        require(0 < self.mfu <= 1, "mfu", self.mfu, "a number in (0, 1]")
        require(self.max_failures >= -1, "max_failures", self.max_failures, "-1 (no limit) or more")
        require_an_effect(self)
