"""What a training run and an evaluation can be told, with the paper's recipe (App. C) as the default.

A value comes from its flag, else from the TOML file given with ``--config``, else from here.
"""

import argparse
import dataclasses
import re
import tomllib
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bisieve import storage
from bisieve.errors import TrainingError, UsageError

IMAGE_BACKENDS = ("pil", "torchvision")

Config = TypeVar("Config", bound="TrainConfig | EvaluateConfig")


def option(help: str, default: Any = MISSING, choices: tuple[Any, ...] | None = None) -> Any:
    """A config field that is also a flag and a TOML key; without ``default`` it must be given."""
    metadata = {"help": help, "choices": choices}
    return field(metadata=metadata) if default is MISSING else field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    index: str = option("URL of the ranked index")
    image_root: str = option("URL below which the images of the rollouts lie")
    backbone: str = option("hub id, folder or URL of the vision-language model to start from")
    output: str = option("URL of the folder that gets the trained model and its run")
    fraction: float = option("share of each source's rollouts to train on, best first, in (0, 1]", 0.25)

    workers: int = option("Ray Train workers, one GPU each where there are GPUs", 2)
    zero_stage: int = option("DeepSpeed ZeRO stage", 3, choices=(1, 2, 3))
    precision: str = option("number format of the forward pass", "auto", choices=("auto", "bf16", "fp32"))
    gradient_checkpointing: bool = option("compute activations twice and keep fewer of them", False)
    train_vision: bool = option("train the vision encoder", False)
    train_projector: bool = option("train what lies between vision encoder and language model", True)
    train_language: bool = option("train the language model", True)
    lora_rank: int = option("train the language model through LoRA adapters of this rank; 0: all of it", 0)
    lora_alpha: int = option("adapters count lora_alpha / lora_rank times", 32)
    lora_dropout: float = option("share of an adapter's inputs that is dropped", 0.0)

    epochs: int = option("passes over the cut", 1)
    global_batch: int = option("rollouts an optimizer step sees, over all workers", 512)
    pack_tokens: int = option("tokens a worker packs into one sequence, a prompt once; 0: no packs", 8192)
    micro_batch: int = option("rollouts a worker puts through the model at once, with --pack-tokens 0", 2)
    prompts_together: bool = option("the rollouts of a prompt come in the same batch", True)
    max_length: int = option("tokens a rollout may have; a longer one loses whole trailing steps", 8192)
    max_tiles: int = option("tiles an image may be cut into", 6)
    image_backend: str = option("library that makes the pixels", "pil", choices=IMAGE_BACKENDS)
    label_threshold: float = option("a step is positive when its MC score is above this", 0.0)
    seed: int = option("seed of the order of the rollouts", 0)

    learning_rate: float = option("peak learning rate of AdamW", 1e-5)
    warmup: float = option("share of the steps in which the learning rate rises; then a cosine to 0", 0.05)
    weight_decay: float = option("AdamW's weight decay, on matrices alone", 0.05)
    beta1: float = option("AdamW's first beta", 0.9)
    beta2: float = option("AdamW's second beta", 0.999)
    epsilon: float = option("AdamW's epsilon", 1e-8)
    clip: float = option("largest norm of the gradient", 1.0)

    checkpoint_every: int = option("steps from one checkpoint to the next", 50)
    max_failures: int = option("how often a run with killed workers is resumed from its last checkpoint", 3)
    log_every: int = option("steps from one progress line to the next", 1)
    skip_missing_images: bool = option("leave out rollouts whose images are missing, and count them", False)
    restart: bool = option("forget an unfinished run, or replace a finished model, at the output", False)

    @property
    def trained_parts(self) -> list[str]:
        """The parts of the backbone that are trained."""
        return [part for part in ("vision", "projector", "language") if getattr(self, f"train_{part}")]

    def check(self) -> None:
        """`UsageError` for a value no run can have."""
        if not self.trained_parts:
            raise UsageError(
                "a part of the model to train", "none", "give --train-language or another --train-"
            )
        require(0 < self.fraction <= 1, "fraction", self.fraction, "a number in (0, 1]")
        for name in ("workers", "epochs", "global_batch", "micro_batch", "max_length", "max_tiles"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer of 1 or more")
        for name in ("checkpoint_every", "log_every"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer of 1 or more")
        require(self.pack_tokens >= 0, "pack_tokens", self.pack_tokens, "0 or more")
        require(0 <= self.warmup <= 1, "warmup", self.warmup, "a number in [0, 1]")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        for name in ("clip", "epsilon"):
            require(getattr(self, name) > 0, name, getattr(self, name), "a number above 0")
        for name in ("beta1", "beta2", "label_threshold"):
            require(0 <= getattr(self, name) < 1, name, getattr(self, name), "a number in [0, 1)")
        require(self.lora_rank >= 0, "lora_rank", self.lora_rank, "0 or more")
        require(
            self.train_language or not self.lora_rank,
            "lora_rank",
            self.lora_rank,
            "0 with --no-train-language",
        )
        require(self.lora_alpha >= 1, "lora_alpha", self.lora_alpha, "an integer of 1 or more")
        require(0 <= self.lora_dropout < 1, "lora_dropout", self.lora_dropout, "a number in [0, 1)")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "a number of 0 or more")
        require(0 <= self.seed < 2**63, "seed", self.seed, "an integer from 0 to 2⁶³ − 1")
        require(self.max_failures >= -1, "max_failures", self.max_failures, "-1 (no limit) or more")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """One evaluation."""

    model: str = option("folder or URL of a trained model, or of a backbone to see its untrained self")
    benchmark: str = option("URL of a JSONL file in VisualProcessBench's schema")
    image_root: str = option("URL below which the images of the benchmark lie")
    output: str = option("URL of the folder that gets metrics.json and scores.jsonl")
    workers: int = option("Ray Data workers, one GPU each where there are GPUs", 2)
    batch: int = option("solutions a worker puts through the model at once", 16)
    seed: int = option("seed of the split into a calibration half and a reported half", 0)
    max_length: int = option("tokens a solution may have; 0: as in training", 0)
    max_tiles: int = option("tiles an image may be cut into, for a model that was not trained by bisieve", 6)
    image_backend: str = option(
        "library that makes the pixels, for a model that was not trained by bisieve", "pil", IMAGE_BACKENDS
    )

    def check(self) -> None:
        """`UsageError` for a value no evaluation can have."""
        for name in ("workers", "batch", "max_tiles"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer of 1 or more")
        require(self.max_length >= 0, "max_length", self.max_length, "0 or more")


def located(config: Config) -> Config:
    """``config`` with canonical URLs: workers run in folders, and on machines, of their own."""
    places: dict[str, Any] = {}
    for name in ("index", "image_root", "output", "benchmark"):
        if hasattr(config, name):
            places[name] = storage.canonical(getattr(config, name))
    source = "backbone" if isinstance(config, TrainConfig) else "model"
    places[source] = _model_source(getattr(config, source), "--" + source)
    return dataclasses.replace(config, **places)


def _model_source(source: str, flag: str) -> str:
    """A canonical URL with a ``config.json`` below it, or a hub id, which only the workers look up."""
    is_hub_id = re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", source) and not Path(source).exists()
    if is_hub_id:
        return source
    url = storage.canonical(source)
    if not storage.exists(storage.join(url, "config.json")):
        raise TrainingError(f"a model (config.json) at {source}", "none", f"check {flag}")
    return url


def require(holds: bool, name: str, found: Any, expected: str) -> None:
    """`UsageError` unless ``holds``."""
    if not holds:
        flag = "--" + name.replace("_", "-")
        raise UsageError(f"{expected} for {flag}", repr(found), f"give another {flag}")


def add_options(parser: argparse.ArgumentParser, kind: type[Config]) -> None:
    """A flag for every field of ``kind``, and ``--config``."""
    parser.add_argument("--config", metavar="FILE", help="TOML file with values for any of the options below")
    for item in dataclasses.fields(kind):
        flag = "--" + item.name.replace("_", "-")
        text = item.metadata["help"] + _default_text(item)
        if item.type is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            choices = item.metadata["choices"]
            metavar = None if choices else str(getattr(item.type, "__name__", item.type)).upper()
            parser.add_argument(flag, type=item.type, choices=choices, metavar=metavar, help=text)


def _default_text(item: "dataclasses.Field[Any]") -> str:
    return " (required)" if item.default is MISSING else f" ({item.default})"


def read_config(kind: type[Config], args: argparse.Namespace) -> Config:
    """The resolved config; `UsageError` for a file that cannot be read, an unknown key or a wrong value."""
    values = _read_toml(args.config, kind) if args.config else {}
    for item in dataclasses.fields(kind):
        if (given := getattr(args, item.name)) is not None:
            values[item.name] = given
        elif item.name not in values and item.default is MISSING:
            flag = "--" + item.name.replace("_", "-")
            raise UsageError(
                f"{flag} ({item.metadata['help']})", "nothing", f"give {flag}, or its key in --config"
            )
    for name in _LOCATIONS & values.keys():
        values[name] = _location(values[name], may_be_hub_id=name in ("backbone", "model"))
    config = kind(**values)
    config.check()
    return config


# Workers have a working directory of their own: what is relative to ours would be lost on them.
_LOCATIONS = {"index", "image_root", "output", "benchmark", "backbone", "model"}


def _location(given: str, may_be_hub_id: bool) -> str:
    """``given`` as an absolute path where it is a local one; URLs and hub ids stay as they are."""
    path = Path(given).expanduser()
    is_hub_id = may_be_hub_id and not path.exists() and not given.startswith((".", "~", "/"))
    return given if "://" in given or is_hub_id else str(path.absolute())


def _read_toml(url: str, kind: type[Config]) -> dict[str, Any]:
    try:
        values = tomllib.loads(storage.read_bytes(url).decode())
    except ValueError as error:  # TOML's and UTF-8's errors both are
        raise UsageError(f"a TOML file at {url}", str(error), "mend the file") from error
    known = {item.name: item for item in dataclasses.fields(kind)}
    for key, value in values.items():
        if key not in known:
            raise UsageError(f"keys of {kind.__name__} in {url}", key, f"use one of: {', '.join(known)}")
        values[key] = _typed(known[key], value, url)
    return values


def _typed(item: "dataclasses.Field[Any]", value: Any, url: str) -> Any:
    if item.type is float and type(value) is int:
        return float(value)
    choices = item.metadata["choices"]
    if type(value) is not item.type or (choices and value not in choices):
        expected = f"one of {choices}" if choices else f"a value of type {getattr(item.type, '__name__', '')}"
        raise UsageError(f"{expected} for {item.name} in {url}", repr(value), "mend the file")
    return value
