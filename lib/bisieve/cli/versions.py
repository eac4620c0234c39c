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


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--index", required=True, metavar="URL")
    options.add_json(parser)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Print a line per version, the newest first; ``*`` marks the current one."""
    from bisieve._text import pluralize
    from bisieve.api.functions import open_index

    found = open_index(args.index).versions()
    if args.json:
        options.print_json([_document(version) for version in found])
        return 0
    for version in found:
        manifest, asked = version.manifest, version.manifest.parameters
        print(
            f"{'*' if version.current else ' '} {manifest.fingerprint[:16]}  {_when(version)}  "
            f"{pluralize(manifest.rollouts, 'rollout')} of {pluralize(manifest.shards.rows, 'shard')}, "
            f"alpha {asked.alpha:g}, strategy {asked.strategy}, scope {asked.scope}, ties {asked.ties}"
        )
    return 0


def _document(version: Any) -> dict[str, Any]:
    manifest = version.manifest
    return {
        "version": manifest.fingerprint, "current": version.current, "published": _when(version),
        "rollouts": manifest.rollouts, "shards": manifest.shards.rows,
        "parameters": asdict(manifest.parameters),
    }  # fmt: skip


def _when(version: Any) -> str:
    return datetime.fromtimestamp(version.published, UTC).isoformat(" ", "seconds")
