"""``bisieve clean``: remove the files of an index's old versions and of runs that ended before publishing."""

import argparse
import re

from bisieve import console
from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import Flag, add_config
from bisieve.errors import UsageError

GROUP = SELECT
HELP = "remove old files that neither the current version nor the last passed one needs"
EXAMPLE = "bisieve clean --index index --older-than 30d --dry-run"
_SECONDS = {"m": 60, "h": 3600, "d": 86400}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--index", required=True, metavar="URL", help="the index")
    parser.add_argument(
        "--older-than",
        default="7d",
        metavar="AGE",
        help="as 30m, 12h or 7d; younger files stay (default: 7d)",
    )
    parser.add_argument("--dry-run", action=Flag, help="only print what would be removed")
    options.add_json(parser)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Remove old files and print their number and size; with ``--dry-run`` only print.

    Files of the current version and of the version that passed the gate last are kept.
    """
    from bisieve._text import pluralize
    from bisieve.api.functions import open_index

    age = seconds(args.older_than)
    found = open_index(args.index).clean(age, args.dry_run)
    if args.json:
        files = [{"url": file.url, "bytes": file.size} for file in found]
        options.print_json({"removed": not args.dry_run, "files": files})
        return 0
    for file in found if args.dry_run else ():
        print(file.url.removeprefix("file://"))
    megabytes = sum(file.size for file in found) / 1e6
    done = "would remove" if args.dry_run else "removed"
    console.show(f"{done} {pluralize(len(found), 'file')}, {megabytes:,.1f} MB")
    return 0


def seconds(age: str) -> int:
    """Convert an age such as ``30m``, ``12h`` or ``7d`` to seconds.

    Raises:
        UsageError: ``age`` has another form.
    """
    if not (parts := re.fullmatch(r"(\d+)([mhd])", age)):
        raise UsageError("an age such as 30m, 12h or 7d", age, "correct --older-than")
    return int(parts[1]) * _SECONDS[parts[2]]
