"""``bisieve path``: print where the Parquet files of an index are, for DuckDB, Polars, pandas and others."""

import argparse

from bisieve import console
from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import Flag, add_config

GROUP = SELECT
HELP = "print the glob of an index's Parquet files, for DuckDB, Polars and pandas"
EXAMPLE = "duckdb -c \"FROM '$(bisieve path --index index)' LIMIT 5\""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_version(parser)
    parser.add_argument("--rejects", action=Flag, help="of the rejected records")
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Print the glob; that of a local index is a path."""
    from bisieve.api.functions import open_index

    index = open_index(args.index, args.version)
    if args.rejects and not index.opened.manifest.rejected:
        console.show_on_stderr("warning: no record was rejected: the path names no file")
    print(index.glob("rejects" if args.rejects else "rollouts").removeprefix("file://"))
    return 0
