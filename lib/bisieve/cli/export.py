"""``bisieve export``: write a selection with its text, as a training file or as a corpus."""

import argparse

from bisieve.cli.overview import SELECT
from bisieve.cli.parser import add_config
from bisieve.records.options import parse_fraction

GROUP = SELECT
HELP = "write the best fraction of an index with its text"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--index", required=True, metavar="URL")
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
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Export the selection; print the requested fraction and the number of rollouts written."""
    from bisieve._text import pluralize
    from bisieve.index.reader import check_shards_unchanged, open_index
    from bisieve.index.selection import read_selection
    from bisieve.tools.export import changed_names, check_target, export_mprm_jsonl, export_records, file_name
    from bisieve.tools.export_records import ImageFolder, refuse

    index = open_index(args.index)
    check_target(index, args.output, is_folder=args.format == "records")
    if args.images:
        check_target(index, args.images)
    save = ImageFolder(args.images).save if args.images else refuse
    selection = read_selection(index, args.fraction)
    check_shards_unchanged(index)
    if args.format == "records":
        written = export_records(selection, args.output, save)
        if changed := changed_names(selection):
            print(
                f"{pluralize(len(changed), 'source')} written under another file name, "
                f"for example {changed[0]} in {file_name(changed[0])}.jsonl, "
                "as it is called when that is scored without --source-field"
            )
    else:
        written = export_mprm_jsonl(selection, args.output, index.manifest.parameters.threshold, save)
    of = "each source" if index.manifest.parameters.scope == "source" else "all sources"
    asked = f"asked for {selection.fraction:.2%} of {of}"
    print(f"{args.output}: {written} of {selection.available} rollouts ({selection.delivered:.2%}; {asked})")
    return 0
