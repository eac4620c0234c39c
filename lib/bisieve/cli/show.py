"""``bisieve show``: print a rollout of an index, with its text, its place, and the others of its question."""

import argparse
import base64
import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import Flag, add_config
from bisieve.errors import UsageError
from bisieve.records.options import parse_fraction

GROUP = SELECT
HELP = "show a rollout: rank, scores, steps, why it is kept or not, and its question's others"
EXAMPLE = "bisieve show ROLLOUT_ID --index index --image-root corpus --open"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("rollout_id", metavar="ROLLOUT_ID", help="the id in the index")
    options.add_version(parser)
    add = parser.add_argument
    add(
        "--fraction", type=parse_fraction, metavar="F",
        help="the selection that keeps or drops the rollout (default: 25%%)",
    )  # fmt: skip
    add("--source", metavar="NAME", help="the rollout of this source, where several have the id")
    add("--image-root", metavar="URL", help="where the images are, for --open")
    add("--open", action=Flag, help="open its images with the program that the system has for them")
    options.add_selecting(parser)
    options.add_json(parser)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Print the rollout, and open its images if asked to.

    Raises:
        UsageError: There is no such rollout, or --open finds no image.
    """
    from bisieve.api.functions import open_index
    from bisieve.report.reading import FULL, SMALL

    index = open_index(args.index, args.version)
    fraction = {} if args.fraction is None else {"fraction": args.fraction}
    found = index.look_up(
        args.rollout_id, **fraction, source=args.source, image_root=args.image_root,
        image_size=FULL if args.open else SMALL, **options.selecting(args),
    )  # fmt: skip
    options.show(found, args.json)
    if args.open:
        _open_images(found.example.images)
    return 0


def _open_images(images: Sequence[str]) -> None:
    """Write the images (data URLs) to temporary files, and open each; the files stay for the program."""
    if not images:
        hint = "the note above tells why; the record may have none"
        raise UsageError("an image of the rollout for --open", "none that could be read", hint)
    folder = Path(tempfile.mkdtemp(prefix="bisieve-show-"))
    for number, image in enumerate(images):
        file = folder / f"{number}.jpg"
        file.write_bytes(base64.b64decode(image.partition(",")[2]))
        if not webbrowser.open(file.as_uri()):
            raise UsageError("a program that opens images", f"none for {file}", "open that file by hand")
