"""``bisieve rank``: rank an index again by other parameters, without reading its shards."""

import argparse

from bisieve.cli import options

HELP = "rank an index again: by another alpha, threshold, strategy, scope or rule for ties"
WITHOUT_PANDAS = True  # no code that it runs uses pandas


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--index", required=True, metavar="URL", help="the index to start from")
    parser.add_argument("--output", required=True, metavar="URL", help="where the new index goes")
    options.add_ranking(parser)
    options.add_engine(parser)
    options.add_logging(parser)


def run(args: argparse.Namespace) -> int:
    """Rank the index and print a summary; parameters that are not given stay as they are in the index."""
    ranking, engine = options.ranking(args), options.engine(args)

    from bisieve.engines import choose_engine
    from bisieve.events import events_on_stderr, log_format
    from bisieve.index.reader import open_index
    from bisieve.index.rerank import with_overrides
    from bisieve.pipeline.rank import rank_index
    from bisieve.tools.report import score_report

    index = open_index(args.index)
    parameters = with_overrides(index.manifest.parameters, ranking)
    with events_on_stderr(log_format(args.log_format)) as emit:
        open_engine = choose_engine(emit=emit, **engine)
        ranked, written = rank_index(open_engine, index, parameters, args.output, emit)
    print(score_report(ranked, args.output, written))
    return 0
