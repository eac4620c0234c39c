"""Options that several commands share.

Each ``add_*`` function declares a group of options; `ranking`, `reading` and `engine` check the parsed values
and return them in the form that the library needs.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from bisieve import console
from bisieve._redact import SECRET_SETTING
from bisieve.cli.parser import Flag
from bisieve.cli.process import is_utf8
from bisieve.errors import UsageError
from bisieve.events import FORMAT_VARIABLE, FORMATS
from bisieve.io.urls import check_no_secret
from bisieve.ranking.strategies import strategy_names, strategy_of
from bisieve.records.options import (
    ALL_NEGATIVE,
    AUTO,
    EXCLUDE,
    RANKING,
    SCOPES,
    TIES,
    ReadOptions,
    check_ranking,
)


def add_ranking(parser: argparse.ArgumentParser, **defaults: Any) -> None:
    """Declare the options of the ranking; an option that is not in ``defaults`` defaults to None."""
    add = parser.add_argument_group("ranking").add_argument
    add("--alpha", type=float, default=defaults.get("alpha"), help="α of the score (default: 0.05)")
    add(
        "--threshold", type=float, default=defaults.get("threshold"), metavar="SCORE",
        help="a step is positive when its score exceeds it (default: 0)",
    )  # fmt: skip
    add(
        "--strategy", choices=strategy_names(), default=defaults.get("strategy"), metavar="NAME",
        help=f"ranking strategy: {', '.join(strategy_names())} (default: bis)",
    )  # fmt: skip
    add(
        "--pair-share", type=float, metavar="SHARE",
        help="--strategy paired: share of the mixed rollouts that get a partner (default: 1)",
    )  # fmt: skip
    add(
        "--scope", choices=SCOPES, default=defaults.get("scope"),
        help="rank inside each source or over all (default: source)",
    )  # fmt: skip
    add(
        "--ties", choices=TIES, default=defaults.get("ties"),
        help="order of equal rollouts (default: file)",
    )  # fmt: skip
    add(
        "--all-negative", choices=ALL_NEGATIVE,
        help="rollouts without a positive step: ranked as the others are (default), last, or never selected",
    )  # fmt: skip
    add(
        "--seed", type=int, default=defaults.get("seed"), metavar="N",
        help="of --ties hash and of strategies with a random order (default: 0)",
    )  # fmt: skip


def ranking(args: argparse.Namespace) -> dict[str, Any]:
    """Return the ranking options that are not None, by name, after checking them.

    Raises:
        UsageError: A value is out of range, or ``--ties`` does not apply to the strategy.
    """
    given = {name: value for name in RANKING if (value := getattr(args, name)) is not None}
    check_ranking(given)
    if given.get("ties", "file") != "file" and strategy_of(given.get("strategy", "bis")).shuffled:
        raise UsageError(
            f"no --ties beside --strategy {given['strategy']}",
            given["ties"],
            "omit --ties: this strategy orders ties randomly",
        )
    return given


def add_selecting(
    parser: argparse.ArgumentParser, exclude: str = "leave out rollouts: a text file, one rollout_id a line"
) -> None:
    """Declare the options by which a selection can differ from the ranking of its index.

    Args:
        parser: Of the command.
        exclude: What the file of ``--exclude`` is for.
    """
    group = parser.add_argument_group(
        "selection", "by other options than those that the index is ranked by; the index stays as it is"
    )
    add = group.add_argument
    add("--strategy", choices=strategy_names(), metavar="NAME", help=", ".join(strategy_names()))
    add(
        "--alpha", type=alpha_or_auto,
        help="α of the score; auto: the smallest one without a shortcut",
    )  # fmt: skip
    add("--threshold", type=float, metavar="SCORE", help="a step is positive when its score exceeds it")
    add("--pair-share", type=float, metavar="SHARE", help="of the mixed rollouts, with --strategy paired")
    add("--ties", choices=TIES, help="order of equal rollouts")
    add("--all-negative", choices=ALL_NEGATIVE, help="rollouts without a positive step")
    add(
        "--selection-seed", type=int, metavar="N",
        help="seed of what is random in the selection, such as all of --strategy random",
    )  # fmt: skip
    add("--exclude", metavar="FILE", help=exclude)


def alpha_or_auto(given: str) -> float | str:
    """Parse a number or ``auto``; raise `ValueError` for anything else."""
    return given if given == AUTO else float(given)


def selecting(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `add_selecting` that are given, by name."""
    known = (*RANKING, EXCLUDE)
    names = set(known) & vars(args).keys()
    seed = {} if args.selection_seed is None else {"seed": args.selection_seed}
    return seed | {
        name: value for name in known if name in names and (value := getattr(args, name)) is not None
    }


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say how records are read."""
    add = parser.add_argument_group("records").add_argument
    add(
        "--layout", choices=("auto", "rollouts", "steps"), default="auto",
        help="one record a rollout or a step; auto: detected from each shard's first records (default)",
    )  # fmt: skip
    add(
        "--field", action="append", default=[], metavar="NAME=COLUMN",
        help="what the records call the field NAME, as question=prompt; repeatable",
    )  # fmt: skip
    add(
        "--source-from", choices=("stem", "folder"),
        help="the source is the shard's file stem (default) or the name of its folder",
    )  # fmt: skip
    add(
        "--source-field",
        metavar="NAME",
        help="read the source from this field of the record, else from a folder NAME=... in its path",
    )
    add(
        "--labels-as-scores", action=Flag,
        help="true and false are the scores 1 and 0 (default: such records are rejected)",
    )  # fmt: skip
    add(
        "--image-prefix", action="append", default=[], metavar="OLD=NEW",
        help="replace the prefix OLD of image names by NEW, as s3://old/=; repeatable, the longest wins",
    )  # fmt: skip


def reading(args: argparse.Namespace) -> ReadOptions:
    """Return how records are to be read.

    Raises:
        UsageError: Options contradict each other, a pair is malformed, or a URL contains a secret.
    """
    if args.source_from and args.source_field:
        raise UsageError("--source-from or --source-field", "both", "leave out one")
    for pair in args.image_prefix:
        check_no_secret(pair)  # the manifest stores it
    return ReadOptions(
        layout=args.layout,
        labels_as_scores=args.labels_as_scores,
        source_from=args.source_from or "stem",
        source_field=args.source_field,
        fields=_pairs("--field NAME=COLUMN", args.field, "write it as question=prompt", blank=False),
        image_prefixes=_pairs("--image-prefix OLD=NEW", args.image_prefix, "write it as old/=new/"),
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Declare the options that choose the engine and configure it; spark-submit may set Spark's instead."""
    add = parser.add_argument_group("engine").add_argument
    add(
        "--engine", choices=("auto", "local", "spark"), default="auto",
        help="local: processes of this machine, no Java; auto (default): Spark under spark-submit, with "
        "--master or --spark-conf, or above --local-limit, else local; the index is the same",
    )  # fmt: skip
    add(
        "--workers",
        type=int,
        metavar="N",
        help="processes of the local engine (default: one a core, with 600 MB each)",
    )
    add(
        "--local-limit", type=float, metavar="GB",
        help="input size above which auto uses Spark (default: 100 a core, at most the free disk)",
    )  # fmt: skip
    add("--master", metavar="URL", help="Spark master (default: spark-submit's, else local[*])")
    add("--spark-conf", action="append", default=[], metavar="KEY=VALUE", help="repeatable")


def add_version(parser: argparse.ArgumentParser) -> None:
    """Declare the options that name a version of an index."""
    parser.add_argument("--index", required=True, metavar="URL", help="the index")
    parser.add_argument(
        "--version", metavar="FINGERPRINT",
        help="fingerprint or its first characters, as listed by bisieve versions (default: the current one)",
    )  # fmt: skip


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare ``--json``, with which stdout gets one JSON document."""
    parser.add_argument("--json", action=Flag, help="print one JSON document")


@contextmanager
def text_beside(as_json: bool) -> Iterator[None]:
    """Send what the block prints to stderr if ``as_json``, so that stdout gets the document alone.

    It goes to a copy of descriptor 2, since all that is written to 2 itself is discarded while Ray scores.
    """
    if not as_json:
        yield
        return
    with os.fdopen(os.dup(2), "w") as text, redirect_stdout(text):
        yield


def print_json(document: Any) -> None:
    """Print a JSON document, indented; where stdout lacks characters, all but ASCII is escaped."""
    print(json.dumps(document, indent=1, ensure_ascii=not is_utf8(sys.stdout)))


def show(result: Any, as_json: bool) -> None:
    """Print ``result.report()``, or its ``numbers()`` as a JSON document."""
    if as_json:
        print_json(result.numbers())
    else:
        console.show(result.report())


def add_logging(parser: argparse.ArgumentParser) -> None:
    """Declare the option for progress and errors on stderr."""
    parser.add_argument(
        "--log-format", choices=FORMATS,
        help=f"what stderr gets: lines, or a JSON object an event (default: ${FORMAT_VARIABLE}, else text)",
    )  # fmt: skip


def engine(args: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of `engines.choose_engine`.

    Raises:
        UsageError: A value is out of range, or options contradict each other.
    """
    conf = spark_conf(args)
    if args.workers is not None and args.workers < 1:
        raise UsageError("--workers from 1 on", str(args.workers), "leave it out for one a core")
    if args.local_limit is not None and not args.local_limit >= 0:
        raise UsageError("a --local-limit from 0 GB on", str(args.local_limit), "correct it")
    if args.engine == "local" and (args.master or conf):
        raise UsageError("no --master and no --spark-conf with --engine local", "one", "leave it out")
    if args.workers is not None and (args.engine == "spark" or args.master or conf):
        raise UsageError(
            "--workers with the local engine alone", "Spark", "name Spark's in --master local[N]"
        )
    limit = None if args.local_limit is None else int(args.local_limit * 1e9)
    return {
        "asked": args.engine, "workers": args.workers, "limit": limit, "master": args.master, "conf": conf,
    }  # fmt: skip


def spark_conf(args: argparse.Namespace) -> dict[str, str]:
    """Return the Spark properties of ``--spark-conf``, by name; the last value of a name counts.

    Raises:
        UsageError: A pair is not KEY=VALUE, or a property is a secret.
    """
    pairs = _pairs(
        "--spark-conf KEY=VALUE",
        args.spark_conf,
        "write it as spark.executor.memory=4g",
        blank=False,
        once=False,
    )
    for name in pairs:
        _check_no_secret_property(name)
    return pairs


def _check_no_secret_property(name: str) -> None:
    """Raise `UsageError` if the Spark property ``name`` holds a secret: `ps` shows options to every user."""
    if SECRET_SETTING.fullmatch(name):
        raise UsageError(
            "no secret among options, which other users of the machine see", f"--spark-conf {name}=***",
            "for spark.authenticate.secret set _SPARK_AUTH_SECRET in the environment; "
            "others go into spark-defaults.conf in SPARK_CONF_DIR",
        )  # fmt: skip


def _pairs(
    expected: str, given: list[str], hint: str, blank: bool = True, once: bool = True
) -> dict[str, str]:
    """Parse ``KEY=VALUE`` pairs.

    Args:
        expected: Name of the option and form of a pair, for the error.
        given: The pairs.
        hint: What the user can do, for the error.
        blank: Whether the key or the value may be empty.
        once: Whether each key may occur only once.

    Raises:
        UsageError: A pair is malformed, or a key occurs twice.
    """
    pairs: dict[str, str] = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not (blank or (key and value)):
            raise UsageError(expected, pair, hint)
        if once and key in pairs:
            raise UsageError(f"each key of {expected} only once", f"{key} twice", "leave out one")
        pairs[key] = value
    return pairs
