"""``bisieve score``: shards to ranked index."""

import argparse
import math

from bisieve.errors import UsageError
from bisieve.records import RECORD_FIELDS

HELP = "score and rank the rollouts of a corpus with Spark; write the index"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--input", nargs="+", required=True, metavar="URL", help="shards, folders or globs")
    parser.add_argument("--index", required=True, metavar="URL", help="where the index goes")
    parser.add_argument("--layout", choices=("auto", "rollouts", "steps"), default="auto")
    parser.add_argument("--alpha", type=float, default=0.05, help="α of the score (default: 0.05)")
    parser.add_argument(
        "--scope", choices=("source", "global"), default="source", help="rank inside or over all"
    )
    parser.add_argument(
        "--ties", choices=("file", "hash", "spread"), default="file", help="order of equal scores"
    )
    parser.add_argument(
        "--tie-seed", type=int, default=0, metavar="N", help="seed of --ties hash (default: 0)"
    )
    parser.add_argument(
        "--source-field", metavar="NAME", help="field that names the source (default: file stem)"
    )
    parser.add_argument(
        "--master", metavar="URL", help="Spark master (default: spark-submit's, else local[*])"
    )
    parser.add_argument("--spark-conf", action="append", default=[], metavar="KEY=VALUE", help="repeatable")


def run(args: argparse.Namespace) -> int:
    """Scores; prints what was found."""
    if not (math.isfinite(args.alpha) and args.alpha >= 0):
        raise UsageError("an alpha from 0 on", str(args.alpha), "the paper uses 0.05 at 25 % and 0.2 at 10 %")
    if args.source_field in RECORD_FIELDS:
        raise UsageError(
            "a --source-field beside those that have a meaning of their own",
            args.source_field,
            "name another",
        )
    conf = dict(_key_value(pair) for pair in args.spark_conf)

    from bisieve.report import score_report
    from bisieve.spark.job import ScoreRequest, score_corpus
    from bisieve.spark.session import spark_context

    request = ScoreRequest(
        inputs=tuple(args.input),
        index=args.index,
        alpha=args.alpha,
        scope=args.scope,
        ties=args.ties,
        tie_seed=args.tie_seed,
        layout=None if args.layout == "auto" else args.layout,
        source_field=args.source_field,
    )
    manifest, written = score_corpus(lambda: spark_context(args.master, conf), request)
    print(score_report(manifest, args.index, written))
    return 0


def _key_value(pair: str) -> tuple[str, str]:
    key, equals, value = pair.partition("=")
    if not (key and equals):
        raise UsageError("--spark-conf KEY=VALUE", pair, "write it as spark.executor.memory=4g")
    return key, value
