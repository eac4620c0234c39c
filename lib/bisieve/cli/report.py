"""``bisieve report``: print a summary of an index, or write a page about an index, a run or an evaluation."""

import argparse
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, NamedTuple

from bisieve import console
from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import add_config
from bisieve.errors import UsageError
from bisieve.records.options import parse_fraction

if TYPE_CHECKING:
    from bisieve.report.page import Page

GROUP = SELECT
HELP = "show what an index holds, and what selections of it look like; as text, JSON or a page"
EXAMPLE = "bisieve report --index index --fraction 10% --html report.html"

PAGES = "bisieve.pages"  # group of entry points, each a `Subject`, whose option has the point's name
_OF_AN_INDEX = (
    "version", "fraction", "compare", "strategy", "alpha", "threshold", "pair_share", "ties", "all_negative",
    "selection_seed", "exclude",
)  # fmt: skip


class Subject(NamedTuple):
    """What a page can be about, beside an index."""

    help: str  # of its option
    page: "Callable[[str, str | None], Page]"  # takes its URL, and that of the images or None
    shows_images: bool = False  # whether the URL of the images has an effect


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--index", metavar="URL", help="an index")
    for name, other in _subjects().items():
        subject.add_argument(_flag(name), metavar="URL", help=f"{other.help}; needs --html")
    add = parser.add_argument
    add(
        "--version", metavar="FINGERPRINT",
        help="fingerprint or its first characters, as listed by bisieve versions (default: the current one)",
    )  # fmt: skip
    add(
        "--fraction", nargs="+", type=parse_fraction, metavar="F",
        help="selections to show beside the corpus (default: 10%% and 25%%); with --html a single one (25%%)",
    )  # fmt: skip
    add("--html", metavar="URL", help="write a page with charts and rollouts: one file that opens offline")
    add("--image-root", metavar="URL", help="where images are, to show those of the rollouts on the page")
    add("--compare", metavar="URL", help="another index, whose selection the page compares with this one")
    options.add_selecting(parser)
    options.add_json(parser)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Print the summary that scoring prints, with all sources and statistics of selections; or write a page.

    Raises:
        UsageError: Options contradict each other.
    """
    if args.index is None:
        return _other_page(args)
    if args.html:
        return _page(args)
    for name in ("image_root", "compare"):
        if getattr(args, name):
            raise UsageError(
                f"--html beside {_flag(name)}", "none", f"name a file, or leave out {_flag(name)}"
            )
    from bisieve.api.functions import open_index
    from bisieve.events import events_on_stderr, log_format

    index = open_index(args.index, args.version)
    asked = options.selecting(args)
    with events_on_stderr(log_format(None)) as emit:
        asked |= {"progress": emit} if asked else {}
        asked |= {"fractions": args.fraction} if args.fraction else {}
        if args.json:
            options.print_json(index.numbers(**asked))
        else:
            console.show(index.report(**asked))
    return 0


def _page(args: argparse.Namespace) -> int:
    """Write the page of an index, and print its first lines, or all its numbers."""
    from bisieve.api.functions import open_index

    fractions = {} if args.fraction is None else {"fraction": args.fraction[0]}
    if args.fraction and len(args.fraction) > 1:
        raise UsageError(
            "a single --fraction beside --html", f"{len(args.fraction)}", "write a page for each"
        )
    console.phase(f"reading {args.index}", on_stderr=True)
    other = open_index(args.compare) if args.compare else None
    numbers = open_index(args.index, args.version).write_html(
        args.html, **fractions, image_root=args.image_root, other=other, **options.selecting(args)
    )
    if args.json:
        options.print_json(numbers)
    else:
        _show_written([(found["title"], found["text"]) for found in numbers["verdict"]], args.html)
    return 0


def _show_written(findings: Sequence[tuple[str, str]], url: str) -> None:
    console.show("\n".join([*(f"{title} {text}" for title, text in findings), f"page: {url}"]))


def _other_page(args: argparse.Namespace) -> int:
    """Write the page of what is not an index: that of an entry point of `PAGES`."""
    name, subject = next(each for each in _subjects().items() if getattr(args, each[0]) is not None)
    if not args.html:
        raise UsageError(f"--html beside {_flag(name)}", "none", "name the file of the page")
    for option in (*_OF_AN_INDEX, *(() if subject.shows_images else ("image_root",))):
        if getattr(args, option) is not None:
            raise UsageError(f"{_flag(option)} beside --index", _flag(name), f"leave out {_flag(option)}")
    console.phase(f"reading {getattr(args, name)}", on_stderr=True)
    from bisieve.report.html import plain, write_page

    page = subject.page(getattr(args, name), args.image_root)
    write_page(page, args.html)
    if args.json:
        options.print_json(plain(page.numbers))
    else:
        _show_written([(found.title, found.text) for found in page.findings], args.html)
    return 0


def _subjects() -> dict[str, Subject]:
    return {point.name: point.load() for point in sorted(entry_points(group=PAGES), key=lambda it: it.name)}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
