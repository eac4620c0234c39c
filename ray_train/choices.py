"""Allowed values of options, functions that parse them, and when an option has an effect (`Need`).

What each recipe changes, and its measured effect, is in docs/reference/paper.md.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from bisieve._text import did_you_mean, pluralize
from bisieve.errors import UsageError
from bisieve.ranking.strategies import strategy_names
from bisieve.records.options import AUTO, check_ranking
from bisieve.records.prompt import MARKER
from ray_train.config_io import Need, flag_of

BETA_BINOMIAL = Need("--objective beta-binomial", lambda config: config.objective == "beta-binomial")
ADAPTERS = Need("--lora-rank above 0", lambda config: config.lora_rank > 0)
ROWS = Need("--pack-tokens 0", lambda config: config.pack_tokens == 0)
VALIDATION = Need("--validation-fraction above 0", lambda config: config.validation_fraction > 0)
HARD_LABELS = Need(
    "--objective hard or --validation-fraction above 0",
    lambda config: config.objective == "hard" or config.validation_fraction > 0,
)

# The paper's 512 rollouts per step are 4 GPUs × 2 rollouts × 64 accumulated micro-batches. Its code divides
# the gradient by these 64 twice. AdamW's update does not depend on the scale of the gradient, but clipping
# and epsilon do: to have the same effect on a gradient that is divided once, both must be 64 times as large.
_ACCUMULATION = 64

PAPER: Mapping[str, Any] = {
    "prompts_together": False,
    "pack_tokens": 0,
    "micro_batch": 2,
    "loss_mean": "pair",
    "drop_last": True,
    "start_at_zero": True,
    "decayed": "all",
    "drop_path": 0.4,
    "clip": 1.0 * _ACCUMULATION,
    "epsilon": 1e-8 * _ACCUMULATION,
    "gradient_checkpointing": True,
}

RECIPES: Mapping[str, Mapping[str, Any]] = {"bisieve": {}, "paper": PAPER}

# Options of the ranking: a run may select by others than its index is ranked by. Their values are texts, so
# that a config file can have `AS_INDEX` or a number.
AS_INDEX = "index"  # the option of the index
_NUMBERS = ("alpha", "threshold", "pair_share")
_OPTIONS = ("strategy", *_NUMBERS, "ties", "all_negative")
_SEED = "selection_seed"  # the ranking's option "seed": training has another seed of its own

DEVICES = ("auto", "gpu", "cpu")
OBJECTIVES = ("hard", "soft", "beta-binomial")

# Each tracker with the package that it imports.
TRACKERS = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}

UNIFORM, BY_INDEX = "uniform", ("bis", "reliability")  # rollout weights: all 1, or a column of the index
_PARQUET = ".parquet"

FAMILY, NONE = "family", "none"  # of --system: the model family's own system turn, or none

_CHAT_TOKENS = ("<|", "<start_of_turn>", "<end_of_turn>")  # prefixes of the chat tokens of all families

TRAINING, PAPER_EVAL = PROMPTS = ("training", "paper-eval")  # the prompt of an evaluation
# The steps on which the threshold is chosen; FIXED: on none, it is given as a number.
CALIBRATION, TEST, FIXED = "calibration", "test", "fixed"
# Metrics by which models are compared before one is promoted; the first is the protocol's.
PROMOTION_METRICS = ("overall_f1", "pooled_macro_f1", "auc")

PARAGRAPHS, LINES = SPLITS = ("paragraphs", "lines")  # how the text of a response is split into steps
# How the rewards of the steps become the score of a response; the first is the paper's.
AGGREGATES = ("mean", "min", "last", "product", "max")


@dataclass(frozen=True)
class Workers:
    """A number of workers, or a range: Ray Train starts as many of it as fit and may change that later."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}-{self.most}" if self.elastic else str(self.least)

    @property
    def elastic(self) -> bool:
        """Whether the number of workers may change."""
        return self.least < self.most

    @property
    def words(self) -> str:
        """Text for a sentence, such as "1 worker" or "2-8 workers"."""
        return f"{self} workers" if self.elastic else pluralize(self.least, "worker")

    @property
    def given(self) -> int | str:
        """Value for a TOML or JSON file: a number, or a range such as "2-8"."""
        return str(self) if self.elastic else self.least

    @property
    def for_ray(self) -> int | tuple[int, int]:
        """Value of ``num_workers`` in Ray Train's ``ScalingConfig``."""
        return (self.least, self.most) if self.elastic else self.least


def workers(given: str | int) -> Workers:
    """Parse a number or a range of workers, such as ``8`` or ``2-8``.

    Raises:
        ValueError: It is neither, or the range's end is below its start.
    """
    numbers = re.fullmatch(r"(\d+)(?:-(\d+))?", str(given), re.ASCII)
    if numbers is None or isinstance(given, bool):
        raise ValueError(f"neither a number nor a range such as 2-8: {given!r}")
    least = int(numbers[1])
    most = int(numbers[2] or least)
    if most < least:
        raise ValueError(f"a range whose end is below its start: {given!r}")
    return Workers(least, most)


def number_or(*words: str) -> Callable[[Any], str]:
    """Return a function that parses a number or one of ``words``, and returns it as a text."""

    def parse(given: Any) -> str:
        if given in words:
            return str(given)
        if isinstance(given, bool):
            raise ValueError(f"neither a number nor {' or '.join(words)}: {given!r}")
        return repr(float(given))

    parse.__name__ = " or ".join(("number", *words))  # shown by argparse
    return parse


def seed_or_index(given: Any) -> str:
    """Return a seed as a text, or `AS_INDEX`; raise `ValueError` for anything else."""
    if given != AS_INDEX and (isinstance(given, bool | float) or int(given) < 0):
        raise ValueError(f"neither {AS_INDEX} nor an integer from 0 on: {given!r}")
    return str(given)


seed_or_index.__name__ = f"seed, an integer from 0 on, or {AS_INDEX}"  # shown by argparse


def strategy_or_index(given: Any) -> str:
    """Return the name of a strategy, or `AS_INDEX`; raise `UsageError` for anything else."""
    known = (AS_INDEX, *strategy_names())
    if given not in known:
        hint = did_you_mean(str(given), known) or "correct its name"
        raise UsageError(f"one of {', '.join(known)} as strategy", str(given), hint)
    return str(given)


def threshold_of(given: str | float) -> str | float:
    """Parse a value of ``--threshold``: `CALIBRATION`, `TEST` or a number in [0, 1].

    Raises:
        ValueError: It is none of them.
    """
    if given in (CALIBRATION, TEST):
        return given
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if isinstance(given, bool) or not 0 <= number <= 1:
        raise ValueError(f"neither {CALIBRATION} nor {TEST} nor a number in [0, 1]: {given!r}")
    return number


threshold_of.__name__ = f"number in [0, 1], {CALIBRATION} or {TEST}"  # shown by argparse


def chosen_trackers(track: str) -> tuple[str, ...]:
    """Return the names of the trackers in ``track``, a comma-separated list or ``"none"``.

    Raises:
        UsageError: A name is unknown.
    """
    if track == "none":
        return ()
    names = tuple(dict.fromkeys(name.strip() for name in track.split(",")))
    for name in names:
        if name not in TRACKERS:
            expected = f"{', '.join(TRACKERS)}, several by comma, or none for --track"
            hint = did_you_mean(name, TRACKERS) or "give another --track"
            raise UsageError(expected, repr(name), hint)
    return names


def column_of(choice: str) -> tuple[str, str] | None:
    """Split a value ``URL.parquet:COLUMN`` of ``--rollout-weights``.

    Returns:
        URL and column; None for a built-in choice such as ``uniform``.

    Raises:
        UsageError: It is neither.
    """
    if choice in (UNIFORM, *BY_INDEX):
        return None
    url, found, column = choice.rpartition(_PARQUET + ":")
    if not (url and found and column):
        names = ", ".join((UNIFORM, *BY_INDEX))
        raise UsageError(
            f"{names} or URL{_PARQUET}:COLUMN for --rollout-weights", repr(choice), "give one of these"
        )
    return url + _PARQUET, column


def is_system(system: str) -> bool:
    """Return whether ``system`` is a valid ``--system``: not blank, and without chat tokens or the marker."""
    return bool(system.strip()) and not any(token in system for token in (*_CHAT_TOKENS, MARKER))


class RewardTokens(NamedTuple):
    """The token at which a reward is read, and the two whose probabilities are compared there."""

    marker: str = MARKER
    positive: str = "Yes"
    negative: str = "No"


OWN_TOKENS = RewardTokens()  # of models that bisieve trains


def selection_options(config: Any) -> dict[str, Any]:
    """Return the ranking's options that are not `AS_INDEX`, by the ranking's names, and numbers as such."""
    given = {name: value for name in _OPTIONS if (value := getattr(config, name)) != AS_INDEX}
    seed = getattr(config, _SEED)
    return {
        name: float(value) if name in _NUMBERS and value != AUTO else value for name, value in given.items()
    } | ({} if seed == AS_INDEX else {"seed": int(seed)})


def check_selection_options(config: Any) -> None:
    """Check the values of the ranking's options.

    Raises:
        UsageError: A value is out of range.
    """
    check_ranking({name: value for name, value in selection_options(config).items() if value != AUTO})


def ineffective_options(config: Any) -> dict[str, Need]:
    """Return the options of ``config`` that have no effect at any value, each with what it would need."""
    needs = {item.name: item.metadata.get("needs") for item in dataclasses.fields(config)}
    return {name: need for name, need in needs.items() if need is not None and not need.met(config)}


def require_an_effect(config: Any) -> None:
    """Check that each option that is not at its default has an effect.

    Raises:
        UsageError: One has none without another option.
    """
    defaults = {item.name: item.default for item in dataclasses.fields(config)}
    for name, need in ineffective_options(config).items():
        if (value := getattr(config, name)) != defaults[name]:
            flag = flag_of(name)
            raise UsageError(
                f"{need.flag} beside {flag}",
                f"{flag} {value} without it, which would do nothing",
                f"leave out {flag}, or give what it needs",
            )
