"""Options of a sweep, each a flag and a key of a TOML or YAML file.

`trials` of `grid` makes of them the options of each training and evaluation.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, TypeVar

from bisieve._text import did_you_mean
from bisieve.errors import UsageError
from bisieve.io.settings import read_settings, toml_value
from bisieve.ranking.strategies import strategy_names, strategy_of
from bisieve.records.options import AUTO, parse_fraction
from ray_train.choices import AS_INDEX, BETA_BINOMIAL, HARD_LABELS, OBJECTIVES, ineffective_options, number_or
from ray_train.config import TrainConfig
from ray_train.config_io import Checked, option, require, typed_options, with_presets
from ray_train.evaluation.config import EvaluateConfig

METRICS = ("auc", "overall_f1", "pooled_macro_f1")  # metrics that tell when a fraction is enough
RANDOM = "random"  # the strategy whose curve leads to all the data

# What the sweep itself sets of a training, and of an evaluation.
_OF_TRAIN = (
    "index", "index_version", "image_root", "backbone", "output", "fraction", "strategy", "alpha",
    "objective", "seed", "selection_seed", "dry_run", "restart", "track", "validation_fraction",
)  # fmt: skip
_OF_OBJECTIVES = (BETA_BINOMIAL, HARD_LABELS)
_OF_EVALUATE = ("model", "benchmark", "output", "workers", "device", "server")

Item = TypeVar("Item")


class Values(tuple[Item, ...]):
    """Several values of an option, none twice; as a text, separated by commas."""

    def __str__(self) -> str:
        """Return the values as a command line has them."""
        return ",".join(map(str, self))


def several(parse: Callable[[Any], Item]) -> Callable[[Any], Values[Item]]:
    """Return a function that parses a list, or a text of values separated by commas.

    Args:
        parse: Parses one value.
    """

    def one(item: Any) -> Item:
        try:
            return parse(item)
        except (ValueError, TypeError) as error:
            raise UsageError(f"a {parse.__name__} in a list", str(item), "correct it") from error

    def parsed(given: Any) -> Values[Item]:
        items: Iterable[Any] = given if isinstance(given, list | tuple) else str(given).split(",")
        found = [one(item.strip() if isinstance(item, str) else item) for item in items]
        if not found or len(set(found)) < len(found):
            raise ValueError(f"a list that is empty or has a value twice: {given!r}")
        return Values(found)

    parsed.__name__ = "list of different values"  # shown by argparse
    return parsed


def _one_of(*known: str) -> Callable[[Any], str]:
    def parse(given: Any) -> str:
        if given not in known:
            hint = did_you_mean(str(given), known) or "correct it"
            raise UsageError(f"one of {', '.join(known)}", str(given), hint)
        return str(given)

    return parse


def _selection_seed(strategy: str, seed: int) -> str:
    """Return the seed of a selection: that of the trial if the strategy draws at random, else the index's.

    With one draw for all trials their mean would be that draw's, and its interval too narrow.
    """
    draws = strategy_of(strategy)
    return str(seed) if draws.shuffled or "seed" in draws.options else AS_INDEX


def _without_effect(strategy: str) -> set[str]:
    """Return the options of a selection that a strategy does not have."""
    known = strategy_of(strategy)
    return ({"ties"} if known.shuffled else set()) | {"pair_share"} - set(known.options)


def _seed(given: Any) -> int:
    if isinstance(given, bool | float) or not 0 <= (seed := int(given)) < 2**63:
        raise ValueError(f"not an integer from 0 to 2⁶³ − 1: {given!r}")
    return seed


_seed.__name__ = "seed, an integer from 0 to 2⁶³ − 1,"  # shown in an error


@dataclass(frozen=True)
class Options:
    """Options of another command that all trials share, as they were given."""

    values: tuple[tuple[str, Any], ...] = ()

    @property
    def given(self) -> dict[str, Any]:
        """Return the options as a table for a TOML or JSON file."""
        return dict(self.values)

    def __str__(self) -> str:
        """Return a table of TOML, or nothing without options."""
        return toml_value(self.given) if self.values else ""

    def of(self, kind: type[Checked], chosen: Iterable[str], where: str) -> dict[str, Any]:
        """Return the options by name, after checking their names and types.

        Args:
            kind: The config of the other command.
            chosen: Names of options that the sweep sets itself.
            where: Name of the option that has the table, for errors.

        Raises:
            UsageError: A name is unknown or one of ``chosen``, or a value has another type.
        """
        values = typed_options(kind, self.given, where)
        for name in chosen:
            if name in values:
                raise UsageError(f"no {name} in {where}, as the sweep sets it", repr(values[name]), "omit it")
        return values


def shared(given: Any) -> Options:
    """Parse a table of options, or the URL of a TOML or YAML file of them."""
    if isinstance(given, Options):
        return given
    table = given if isinstance(given, Mapping) else read_settings(str(given))
    return Options(tuple((str(name), value) for name, value in table.items()))


@with_presets
@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Options of a sweep: of its trials, and of its answer."""

    GROUPS: ClassVar[dict[str, str]] = {
        "index": "what is trained and evaluated on, and where",
        "strategies": "the trials: each of these with each other",
        "train": "what all trials share",
        "metric": "the answer",
        "max_hours": "running and resuming",
    }

    index: str = option("URL of the ranked index", location="url")
    index_version: str = option(
        "first digits of the fingerprint of the index version; default: the current version", ""
    )
    image_root: str = option("URL below which the images of rollouts and benchmark are", location="url")
    backbone: str = option(
        "hub id, folder or URL of the vision-language model that each trial starts from", location="model"
    )
    benchmark: str = option("URL of a JSONL file in VisualProcessBench's schema", location="url")
    output: str = option("URL of the folder that gets the results", location="url")

    strategies: Values[str] = option(
        f"strategies, of {', '.join(strategy_names())}", Values(("bis", RANDOM)),
        parse=several(_one_of(*strategy_names())), metavar="A,B,…",
    )  # fmt: skip
    fractions: Values[float] = option(
        "fractions of the rollouts; 1 is all the data, whatever the strategy", Values((0.05, 0.1, 0.25, 0.5)),
        parse=several(parse_fraction), metavar="5%,10%,…",
    )  # fmt: skip
    alphas: Values[str] = option(
        "values of α, for strategies that depend on it; index: as the index is ranked", Values((AS_INDEX,)),
        parse=several(number_or(AS_INDEX, AUTO)), metavar="0.05,0.2,…",
    )  # fmt: skip
    objectives: Values[str] = option(
        f"training objectives: {', '.join(OBJECTIVES)}", Values(("hard",)),
        parse=several(_one_of(*OBJECTIVES)), metavar="A,B,…",
    )  # fmt: skip
    seeds: Values[int] = option(
        "seeds of the training; three or more show how much a result varies", Values((0, 1, 2)),
        parse=several(_seed), metavar="0,1,…",
    )  # fmt: skip
    equal_steps: bool = option(
        "make more epochs of smaller fractions, so that all trials have about as many steps", False
    )

    train: Options = option(
        "table of other options of bisieve train, or a file of them; here workers defaults to 1", Options(),
        parse=shared, metavar="FILE",
    )  # fmt: skip
    evaluate: Options = option(
        "table of other options of bisieve evaluate, or a file of them", Options(), parse=shared,
        metavar="FILE",
    )  # fmt: skip

    metric: str = option("metric of the table, the plot and the answer; all are kept", METRICS[0], METRICS)
    delta: float = option("how far below all the data a fraction may be and still be enough", 0.01)
    confidence: float = option("confidence of the intervals", 0.95)

    max_hours: float = option(
        "hours after which no trial starts, nor before then one that would end later, as finished ones tell; "
        "a trial that takes longer is not stopped. 0: no limit", 0.0,
    )  # fmt: skip
    trials_at_once: int = option("trials that run at the same time; 0: as many as there is room for", 0)
    dry_run: bool = option("list the trials and what they cost; write nothing", False)

    def check(self) -> None:
        """Check the values of all options, also of those that the trials share.

        Raises:
            UsageError: A value is out of range, or the trials could not tell what all the data give.
        """
        if RANDOM not in self.strategies and 1.0 not in self.fractions:
            raise UsageError(
                "random among --strategies, or 100% among --fractions: only they tell what all the data give",
                f"--strategies {self.strategies} --fractions {self.fractions}", "add one of them",
            )  # fmt: skip
        require(0 < self.delta < 1, "delta", self.delta, "a number in (0, 1)")
        require(0 < self.confidence < 1, "confidence", self.confidence, "a number in (0, 1)")
        require(self.max_hours >= 0, "max_hours", self.max_hours, "a number of 0 or more")
        require(self.trials_at_once >= 0, "trials_at_once", self.trials_at_once, "0 or more")
        for fraction in self.fractions:
            parse_fraction(fraction)
        for objective in self.objectives:
            example = self.train_config(self.strategies[0], AS_INDEX, objective, self.fractions[0], 0)
            example.check()
            if example.workers.elastic:
                raise UsageError("a number of workers in train", str(example.workers), "give no range")
            self.evaluate_config(example).check()

    def train_config(
        self, strategy: str, alpha: str, objective: str, fraction: float, seed: int
    ) -> TrainConfig:
        """Return the options of the training of one trial; its output is the sweep's."""
        given = {"workers": 1, **self.train.of(TrainConfig, _OF_TRAIN, "train")}
        for name in _without_effect(strategy) & given.keys():
            del given[name]  # other strategies of the sweep have this option
        if self.equal_steps:
            given["epochs"] = max(1, round(given.get("epochs", 1) / fraction))
        config = TrainConfig(
            index=self.index, index_version=self.index_version, image_root=self.image_root,
            backbone=self.backbone, output=self.output, fraction=fraction, strategy=strategy, alpha=alpha,
            objective=objective, seed=seed, selection_seed=_selection_seed(strategy, seed), track="none",
            **given,
        )  # fmt: skip
        if len(self.objectives) == 1:
            return config
        # Options of one objective have no effect with another one; here that is no mistake, so reset them.
        idle = {name for name, need in ineffective_options(config).items() if need in _OF_OBJECTIVES}
        defaults: dict[str, Any] = {item.name: item.default for item in fields(config) if item.name in idle}
        return replace(config, **defaults)

    def evaluate_config(self, train: TrainConfig) -> EvaluateConfig:
        """Return the options of the evaluation of a model that was trained with ``train``."""
        given = {"image_root": self.image_root, **self.evaluate.of(EvaluateConfig, _OF_EVALUATE, "evaluate")}
        return EvaluateConfig(
            model=train.output, benchmark=self.benchmark, output=train.output, workers=train.workers.least,
            device=train.device, **given,
        )  # fmt: skip
