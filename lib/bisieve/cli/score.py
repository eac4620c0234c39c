"""``bisieve score``: score and rank the rollouts of shards, and write the index."""

import argparse

from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import Flag, add_config

GROUP = SELECT
HELP = "score and rank the rollouts of a corpus; write the index"
EXAMPLE = "bisieve score --input s3://corpus/annotations --index s3://corpus/index --alpha 0.2"
WITHOUT_PANDAS = True  # no code that it runs uses pandas


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--input", nargs="+", required=True, metavar="URL", help="shards, folders or globs")
    parser.add_argument("--strict", action=Flag, help="fail if an input has files of an unsupported kind")
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

    from bisieve.engines import prepare_engine

    prepare_engine(**engine)
    from bisieve.api.functions import score
    from bisieve.events import events_on_stderr, log_format
    from bisieve.io.urls import canonical
    from bisieve.tools.openlineage import lineage_events

    inputs, url = [canonical(one) for one in args.input], canonical(args.index)
    with (
        events_on_stderr(log_format(args.log_format)) as emit,
        lineage_events("score", inputs, [url]) as datasets,
    ):
        asked = engine.pop("asked")
        index = score(
            args.input, args.index, reading=reading, strict=args.strict, engine=asked, progress=emit,
            engine_options=engine, **ranking,
        )  # fmt: skip
        datasets.versions[url] = index.fingerprint
    options.show(index, args.json)
    return 0
