"""``bisieve score``: score and rank the rollouts of shards, and write the index."""

import argparse

from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import add_config

GROUP = SELECT
HELP = "score and rank the rollouts of a corpus; write the index"
WITHOUT_PANDAS = True  # no code that it runs uses pandas


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--input", nargs="+", required=True, metavar="URL", help="shards, folders or globs")
    parser.add_argument(
        "--strict", action="store_true", help="fail if an input has files of an unsupported kind"
    )
    parser.add_argument("--index", required=True, metavar="URL", help="where the index goes")
    options.add_reading(parser)
    options.add_ranking(parser, alpha=0.05)
    options.add_engine(parser)
    options.add_logging(parser)
    options.add_json(parser)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Score the corpus and print a summary of the index; sends OpenLineage events if they are configured."""
    reading, ranking, engine = options.reading(args), options.ranking(args), options.engine(args)

    from bisieve.engines import choose_engine, prepare_engine

    prepare_engine(**engine)
    from bisieve.events import events_on_stderr, log_format
    from bisieve.io.urls import canonical
    from bisieve.pipeline.run import ScoreRequest, score_corpus
    from bisieve.tools.openlineage import lineage_events
    from bisieve.tools.report import report_document, score_report

    request = ScoreRequest(
        inputs=tuple(args.input), index=args.index, reading=reading, strict=args.strict, **ranking
    )
    inputs, url = [canonical(one) for one in args.input], canonical(args.index)
    with (
        events_on_stderr(log_format(args.log_format), args.quiet) as emit,
        lineage_events("score", inputs, [url]) as datasets,
    ):
        index, written = score_corpus(choose_engine(emit=emit, **engine), request, emit)
        datasets.versions[url] = index.fingerprint
    if args.json:
        options.print_json(report_document(index, args.index, written))
    else:
        print(score_report(index, args.index, written))
    return 0
