"""``bisieve rank``: rank an index again by other parameters, without reading its shards."""

import argparse

from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import add_config

GROUP = SELECT
HELP = "rank an index again: by another alpha, threshold, strategy, scope or rule for ties"
EXAMPLE = "bisieve rank --index index --output index-random --strategy random --seed 1"
WITHOUT_PANDAS = True  # no code that it runs uses pandas


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--index", required=True, metavar="URL", help="the index to start from")
    parser.add_argument("--output", required=True, metavar="URL", help="where the new index goes")
    options.add_ranking(parser)
    options.add_engine(parser)
    options.add_logging(parser)
    options.add_json(parser)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Rank the index and print a summary; parameters that are not given stay as they are in the index."""
    ranking, engine = options.ranking(args), options.engine(args)

    from bisieve.api.functions import open_index, rerank
    from bisieve.events import events_on_stderr, log_format

    index = open_index(args.index)
    asked = engine.pop("asked")
    with events_on_stderr(log_format(args.log_format)) as emit:
        ranked = rerank(index, args.output, engine=asked, progress=emit, engine_options=engine, **ranking)
    options.show(ranked, args.json)
    return 0
