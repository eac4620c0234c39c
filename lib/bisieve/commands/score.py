"""``bisieve score``: shards to ranked index."""

import argparse

from bisieve.commands import options
from bisieve.errors import UsageError
from bisieve.records import RECORD_FIELDS

HELP = "score and rank the rollouts of a corpus with Spark; write the index"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--input", nargs="+", required=True, metavar="URL", help="shards, folders or globs")
    parser.add_argument("--index", required=True, metavar="URL", help="where the index goes")
    parser.add_argument("--layout", choices=("auto", "rollouts", "steps"), default="auto")
    parser.add_argument(
        "--source-field", metavar="NAME", help="field that names the source (default: file stem)"
    )
    options.add_ranking(parser, alpha=0.05)
    options.add_spark(parser)
    options.add_logging(parser)


def run(args: argparse.Namespace) -> int:
    """Scores; prints what was found."""
    ranking, conf = options.ranking(args), options.spark_conf(args)
    if args.source_field in RECORD_FIELDS:
        raise UsageError(
            "a --source-field beside those that have a meaning of their own",
            args.source_field,
            "name another",
        )

    from bisieve.events import log_format, told_on_stderr
    from bisieve.report import score_report
    from bisieve.spark.job import ScoreRequest, score_corpus
    from bisieve.spark.session import spark_context

    request = ScoreRequest(
        inputs=tuple(args.input),
        index=args.index,
        layout=None if args.layout == "auto" else args.layout,
        source_field=args.source_field,
        **ranking,
    )
    with told_on_stderr(log_format(args.log_format)) as tell:
        manifest, written = score_corpus(lambda: spark_context(args.master, conf), request, tell)
    print(score_report(manifest, args.index, written))
    return 0
