"""``bisieve versions``: list the versions of an index."""

import argparse
from datetime import UTC, datetime

HELP = "list the versions of an index that are still there"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--index", required=True, metavar="URL")


def run(args: argparse.Namespace) -> int:
    """Print a line per version, the newest first; ``*`` marks the current one."""
    from bisieve._text import pluralize
    from bisieve.index.reader import open_index
    from bisieve.index.versions import versions

    for version in versions(open_index(args.index)):
        manifest = version.manifest
        when = datetime.fromtimestamp(version.published, UTC).isoformat(" ", "seconds")
        asked = manifest.parameters
        print(
            f"{'*' if version.current else ' '} {manifest.fingerprint[:16]}  {when}  "
            f"{pluralize(manifest.rollouts, 'rollout')} of {pluralize(manifest.shards.rows, 'shard')}, "
            f"alpha {asked.alpha:g}, strategy {asked.strategy}, scope {asked.scope}, ties {asked.ties}"
        )
    return 0
