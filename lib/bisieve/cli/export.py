"""``bisieve export``: write a selection with its text: training files, a corpus, or a data set."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from bisieve import console
from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import Flag, add_config
from bisieve.records.options import parse_fraction
from bisieve.tools.formats.registry import FOLDERS, FORMATS, MPRM, RECORDS, check_options

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
    parser.add_argument("--output", required=True, metavar="URL", help="the file; or the folder")
    parser.add_argument(
        "--format", choices=FORMATS, default=MPRM, metavar="NAME",
        help="; ".join(f"{name}: {content}" for name, content in FORMATS.items()),
    )  # fmt: skip
    parser.add_argument(
        "--images", metavar="FOLDER",
        help="where to write images that are in the records (Parquet, base64); then the --image-root",
    )  # fmt: skip
    parser.add_argument(
        "--image-root", metavar="URL",
        help="internvl, hf-dataset: where the images are that the records name",
    )  # fmt: skip
    parser.add_argument(
        "--skip-unsupported", action=Flag,
        help="leave out the rollouts that the format of a trainer cannot carry",
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

    given = {name: getattr(args, name) for name in ("images", "image_root", "skip_unsupported")}
    check_options(args.format, **given)
    index = open_index(args.index)
    selection = index.select(args.fraction, progress=emit, **options.selecting(args))
    was_there = exists(args.output)
    notes = []
    if args.format == RECORDS:
        written = selection.write_records(args.output, args.images)
        if changed := selection.renamed_sources:
            console.show(
                f"{pluralize(len(changed), 'source')} written under another file name, "
                f"for example {changed[0]} in {file_name(changed[0])}.jsonl, "
                "as it is called when that is scored without --source-field"
            )
    elif args.format == MPRM:
        written = selection.write_jsonl(args.output, args.images)
    else:
        export = selection.write_format(args.output, args.format, **given)
        written, notes = export.rollouts, export.notes
    if was_there:
        is_folder = args.format in FOLDERS
        console.show("note: the folder was there; its other files are still in it" if is_folder
              else "note: the file that was there is replaced")  # fmt: skip
    for note in (*notes, *selection.notes):
        console.show(note)
    of = "each source" if index.parameters.scope == "source" else "all sources"
    console.show(
        f"{args.output}: {written:,} of {pluralize(selection.available, 'rollout')} "
        f"({selection.delivered:.2%}; asked for {percent(selection.fraction)} of {of})"
    )
    return 0
