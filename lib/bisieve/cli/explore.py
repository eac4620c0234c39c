"""``bisieve explore``: a page on this machine to look at rollouts, and to choose among them."""

import argparse
import atexit
import gc
import webbrowser

from bisieve import console
from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import Flag, add_config
from bisieve.records.options import parse_fraction

GROUP = SELECT
HELP = "filter, sort and open rollouts in a browser, try selections, mark what to leave out"
EXAMPLE = "bisieve explore --index index --image-root corpus --exclude exclude.txt"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_version(parser)
    add = parser.add_argument
    add(
        "--fraction", type=parse_fraction, metavar="F",
        help="the selection that is shown at first (default: 25%%)",
    )  # fmt: skip
    add("--image-root", metavar="URL", help="where images are, to show those of the rollouts")
    add("--port", type=int, default=0, metavar="N", help="port of this machine (default: any free one)")
    add("--open", action=Flag, help="open the page in the browser")
    options.add_selecting(parser, exclude="keep the marked ids in this file; those in it are marked at first")
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; its URL, which has a token, is printed."""
    from bisieve.api.functions import open_index
    from bisieve.io.storage import exists
    from bisieve.io.urls import canonical

    atexit.unregister(gc.freeze)  # of `process`: DuckDB would report each object that is left at the end

    def ready(url: str) -> None:
        console.show(f"page: {url}\nfor this machine only; Ctrl-C ends it")
        if args.open:
            webbrowser.open(url)

    index = open_index(args.index, args.version)
    fraction = {} if args.fraction is None else {"fraction": args.fraction}
    try:
        index.explore(
            ready, **fraction, image_root=args.image_root, port=args.port, **options.selecting(args)
        )
    except KeyboardInterrupt as interrupt:
        has_marks = args.exclude and exists(canonical(args.exclude))
        marked = f"; the marked ids are in {args.exclude}" if has_marks else ""
        interrupt.add_note(f"the page is closed{marked}")
        raise
    return 0
