"""``bisieve versions``: list the versions of an index."""

import argparse
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from bisieve.cli import options
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import add_config

GROUP = SELECT
HELP = "list the versions of an index that are still there"
EXAMPLE = "bisieve versions --index index"
_HEAD = ("  version", "published (UTC)", "rollouts", "shards", "alpha", "strategy", "scope", "ties")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--index", required=True, metavar="URL", help="the index")
    options.add_json(parser)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Print a table with a row per version, the newest first; ``*`` marks the current one."""
    from bisieve import console
    from bisieve._text import Report, Table
    from bisieve.api.functions import open_index

    found = open_index(args.index).versions()
    if args.json:
        options.print_json([_document(version) for version in found])
        return 0
    console.show(Report(Table(_HEAD, [_row(version) for version in found])))
    return 0


def _row(version: Any) -> tuple[str, ...]:
    manifest, asked = version.manifest, version.manifest.parameters
    return (
        f"{'*' if version.current else ' '} {manifest.fingerprint[:16]}", _when(version)[:16],
        f"{manifest.rollouts:,}", f"{manifest.shards.rows:,}",
        f"{asked.alpha:g}", asked.strategy, asked.scope, asked.ties,
    )  # fmt: skip


def _document(version: Any) -> dict[str, Any]:
    manifest = version.manifest
    return {
        "version": manifest.fingerprint, "current": version.current, "published": _when(version),
        "rollouts": manifest.rollouts, "shards": manifest.shards.rows,
        "parameters": asdict(manifest.parameters),
    }  # fmt: skip


def _when(version: Any) -> str:
    return datetime.fromtimestamp(version.published, UTC).isoformat(" ", "seconds")
