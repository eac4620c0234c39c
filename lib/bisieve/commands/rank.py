"""``bisieve rank``: an index ranked anew, with no look at its shards."""

import argparse

from bisieve.commands import options

HELP = "rank an index again: by another alpha, threshold, strategy, scope or rule for ties"
IN_MEMORY = 2_000_000  # rollouts that one process ranks, in about 2 GB; more are Spark's


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--index", required=True, metavar="URL", help="the index to start from")
    parser.add_argument("--output", required=True, metavar="URL", help="where the new index goes")
    options.add_ranking(parser)
    options.add_spark(parser)
    options.add_logging(parser)


def run(args: argparse.Namespace) -> int:
    """Ranks; prints what was found.  What is not asked for stays as it was."""
    ranking, conf = options.ranking(args), options.spark_conf(args)

    from bisieve.events import log_format, told_on_stderr
    from bisieve.index import open_index
    from bisieve.report import score_report
    from bisieve.rerank import asked_anew, publish_ranked, rank_in_memory

    index = open_index(args.index)
    parameters = asked_anew(index.manifest.parameters, ranking)
    with told_on_stderr(log_format(args.log_format)) as tell:
        if index.manifest.rollouts <= IN_MEMORY:
            ranked, written = publish_ranked(index, parameters, args.output, rank_in_memory, tell)
        else:
            from bisieve.spark.rerank import publish_ranked_on_spark
            from bisieve.spark.session import spark_context, unwrapped_errors

            with unwrapped_errors(), spark_context(args.master, conf) as context:
                ranked, written = publish_ranked_on_spark(context, index, parameters, args.output, tell)
    print(score_report(ranked, args.output, written))
    return 0
