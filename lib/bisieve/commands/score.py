"""``bisieve score``: shards to ranked index."""

import argparse

from bisieve.commands import options

HELP = "score and rank the rollouts of a corpus with Spark; write the index"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--input", nargs="+", required=True, metavar="URL", help="shards, folders or globs")
    parser.add_argument(
        "--strict", action="store_true", help="refuse inputs with files of a kind that is not read"
    )
    parser.add_argument("--index", required=True, metavar="URL", help="where the index goes")
    options.add_reading(parser)
    options.add_ranking(parser, alpha=0.05)
    options.add_spark(parser)
    options.add_logging(parser)


def run(args: argparse.Namespace) -> int:
    """Scores; prints what was found."""
    reading, ranking, conf = options.reading(args), options.ranking(args), options.spark_conf(args)

    from bisieve.events import log_format, told_on_stderr
    from bisieve.lineage_events import lineage_events
    from bisieve.report import score_report
    from bisieve.spark.job import ScoreRequest, score_corpus
    from bisieve.spark.session import spark_context
    from bisieve.storage import canonical

    request = ScoreRequest(
        inputs=tuple(args.input), index=args.index, reading=reading, strict=args.strict, **ranking
    )
    inputs, url = [canonical(one) for one in args.input], canonical(args.index)
    with (
        told_on_stderr(log_format(args.log_format)) as tell,
        lineage_events("score", inputs, [url]) as datasets,
    ):
        index, written = score_corpus(lambda: spark_context(args.master, conf), request, tell)
        datasets.versions[url] = index.fingerprint
    print(score_report(index, args.index, written))
    return 0
