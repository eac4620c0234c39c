"""``bisieve upgrade``: an index of an older format, brought up to the present one in place."""

import argparse

HELP = "bring an index of an older format up to the present one, in place"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--index", required=True, metavar="URL")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be written")


def run(args: argparse.Namespace) -> int:
    """Upgrades, and prints a line a version that was older."""
    from bisieve.index_format import FORMAT_VERSION
    from bisieve.upgrade.in_place import upgrade_index
    from bisieve.wording import counted

    found = upgrade_index(args.index, args.dry_run)
    for upgrade in found:
        lists = upgrade.draft.files.values()
        size = f"{counted(len(lists), 'list')}, {sum(map(len, lists)) / 1e3:.1f} kB"
        print(
            f"version {upgrade.manifest.fingerprint[:16]}: "
            f"format {upgrade.format_version} to {FORMAT_VERSION}, a manifest and {size}"
        )
    state = "would be upgraded; nothing was written" if args.dry_run else "upgraded"
    print(f"index {args.index}: {state if found else f'format {FORMAT_VERSION}, nothing to do'}")
    return 0
