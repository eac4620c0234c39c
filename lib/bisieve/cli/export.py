"""``bisieve export``: write a selection with its text, as a training file or as a corpus."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bisieve import console
from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import add_config
from bisieve.records.options import parse_fraction

if TYPE_CHECKING:
    from bisieve.events import EventSink

GROUP = SELECT
HELP = "write the best fraction of an index with its text"
EXAMPLE = "bisieve export --index index --fraction 10% --output best.jsonl"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--index", required=True, metavar="URL", help="the index")
    parser.add_argument(
        "--fraction",
        type=parse_fraction,
        required=True,
        metavar="F",
        help="share of the rollouts (of each source, or of all by the index's scope), as 0.1 or 10%%",
    )
    parser.add_argument("--output", required=True, metavar="URL", help="the file; the folder of records")
    parser.add_argument(
        "--format", choices=("mprm-jsonl", "records"), default="mprm-jsonl",
        help="the paper's training file, or a corpus: the records as they are, a file a source",
    )  # fmt: skip
    parser.add_argument(
        "--images", metavar="FOLDER",
        help="where to write images that are in the records (Parquet, base64); then the --image-root",
    )  # fmt: skip
    options.add_selecting(parser)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Export the selection; print the requested fraction and the number of rollouts written."""
    from bisieve.events import events_on_stderr, log_format

    with events_on_stderr(log_format(None)) as emit:
        return _export(args, emit)


def _export(args: argparse.Namespace, emit: EventSink) -> int:
    from bisieve._text import percent, pluralize
    from bisieve.api.functions import open_index
    from bisieve.io.storage import exists
    from bisieve.tools.export import file_name

    index = open_index(args.index)
    selection = index.select(args.fraction, progress=emit, **options.selecting(args))
    was_there = exists(args.output)
    if args.format == "records":
        written = selection.write_records(args.output, args.images)
        if changed := selection.renamed_sources:
            console.show(
                f"{pluralize(len(changed), 'source')} written under another file name, "
                f"for example {changed[0]} in {file_name(changed[0])}.jsonl, "
                "as it is called when that is scored without --source-field"
            )
    else:
        written = selection.write_jsonl(args.output, args.images)
    if was_there:
        is_folder = args.format == "records"
        console.show("note: the folder was there; its other files are still in it" if is_folder
              else "note: the file that was there is replaced")  # fmt: skip
    for note in selection.notes:
        console.show(note)
    of = "each source" if index.parameters.scope == "source" else "all sources"
    console.show(
        f"{args.output}: {written:,} of {pluralize(selection.available, 'rollout')} "
        f"({selection.delivered:.2%}; asked for {percent(selection.fraction)} of {of})"
    )
    return 0
