"""Options that more than one command has."""

import argparse
import math
from typing import Any

from bisieve.errors import UsageError
from bisieve.events import FORMAT_VARIABLE, FORMATS

_SHUFFLED = ("random", "mixed")


def add_ranking(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """How rollouts are ranked; without a default an option stays None."""
    add = parser.add_argument_group("ranking").add_argument
    add("--alpha", type=float, default=defaults.get("alpha"), help="α of the score (default: 0.05)")
    add(
        "--threshold", type=float, default=defaults.get("threshold"), metavar="SCORE",
        help="a step is positive when its score exceeds it (default: 0)",
    )  # fmt: skip
    add(
        "--strategy", choices=("bis", "random", "mixed", "reliable", "low_mc", "all"),
        default=defaults.get("strategy"), help="what ranks (default: bis)",
    )  # fmt: skip
    add(
        "--scope", choices=("source", "global"), default=defaults.get("scope"),
        help="rank inside each source or over all (default: source)",
    )  # fmt: skip
    add(
        "--ties", choices=("file", "hash", "spread"), default=defaults.get("ties"),
        help="order of equal rollouts (default: file)",
    )  # fmt: skip
    add(
        "--seed", type=int, default=defaults.get("seed"), metavar="N",
        help="of --ties hash and of random order (default: 0)",
    )  # fmt: skip


def ranking(args: argparse.Namespace) -> dict[str, Any]:
    """The ranking options that were given; `UsageError` for one that cannot be."""
    names = ("alpha", "threshold", "strategy", "scope", "ties", "seed")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    alpha, threshold = given.get("alpha", 0.0), given.get("threshold", 0.0)
    if not (math.isfinite(alpha) and alpha >= 0):
        raise UsageError("an alpha from 0 on", str(alpha), "the paper uses 0.05 at 25 % and 0.2 at 10 %")
    if not 0 <= threshold < 1:
        raise UsageError("a threshold in [0, 1)", str(threshold), "the paper uses 0")
    if not 0 <= given.get("seed", 0) < 2**63:
        raise UsageError("a seed from 0 to 2⁶³ − 1", str(given["seed"]), "mend --seed")
    if given.get("strategy") in _SHUFFLED and given.get("ties", "file") != "file":
        raise UsageError(
            "no --ties beside --strategy random or mixed", given["ties"], "their ties are in random order"
        )
    return given


def add_spark(parser: argparse.ArgumentParser) -> None:
    """Where Spark runs, when it is not spark-submit that says it."""
    add = parser.add_argument_group("Spark").add_argument
    add("--master", metavar="URL", help="Spark master (default: spark-submit's, else local[*])")
    add("--spark-conf", action="append", default=[], metavar="KEY=VALUE", help="repeatable")


def add_logging(parser: argparse.ArgumentParser) -> None:
    """How a run tells what it does."""
    parser.add_argument(
        "--log-format", choices=FORMATS,
        help=f"what stderr gets: lines, or a JSON object an event (default: ${FORMAT_VARIABLE}, else text)",
    )  # fmt: skip


def spark_conf(args: argparse.Namespace) -> dict[str, str]:
    """The configuration that was given; `UsageError` where a pair is none."""
    return dict(_key_value(pair) for pair in args.spark_conf)


def _key_value(pair: str) -> tuple[str, str]:
    key, equals, value = pair.partition("=")
    if not (key and equals):
        raise UsageError("--spark-conf KEY=VALUE", pair, "write it as spark.executor.memory=4g")
    return key, value
