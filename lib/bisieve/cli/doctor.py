"""``bisieve doctor``: check whether this machine, its stores and its clusters are ready for a run."""

import argparse
from importlib.metadata import entry_points

from bisieve import console
from bisieve.cli.overview import CHECK
from bisieve.cli.parser import Flag, add_config

GROUP = CHECK
HELP = "check this machine, its stores and its clusters; each line says ok or what to do"
EXAMPLE = "bisieve doctor --input s3://corpus/annotations --output s3://models"
CHECKS = "bisieve.checks"  # group of entry points, named "1 machine": a number for the order, and a name


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--input", nargs="+", default=[], metavar="URL", help="shards or images: listed, a range read")
    add("--output", nargs="+", default=[], metavar="URL",
        help="folders of indexes or models: a scratch key is written, overwritten and removed")  # fmt: skip
    add("--master", metavar="URL", help="Spark master whose workers are checked, too")
    add("--properties-file", metavar="FILE",
        help="Spark's properties file, as for spark-submit; checked for jars")  # fmt: skip
    add("--json", action=Flag, help="one JSON document in place of lines")
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Run all checks and print each; return 1 if one has failed, else 0."""
    from bisieve.doctor.checks import DoctorTargets, all_well, as_json, cells, examined

    targets = DoctorTargets(args.input, args.output, args.master, args.properties_file)
    checks = []
    for point in sorted(entry_points(group=CHECKS), key=lambda point: point.name):
        for check in examined(point.name.split()[-1], point.load, targets):
            checks.append(check)
            if not args.json:
                console.show_row(cells(check), (8, 20))
    if args.json:
        print(as_json(checks))
    return 0 if all_well(checks) else 1
