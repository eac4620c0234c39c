"""Check whether two indexes are the same: equal fingerprints, and equal bytes in every file."""

import json
import sys
from pathlib import Path


def main(one: Path, two: Path) -> int:
    """Print the comparison of two index folders; return 1 if they differ, else 0."""
    first, second = (json.loads((index / "manifest.json").read_text())["fingerprint"] for index in (one, two))
    print(f"fingerprints {first[:16]} and {second[:16]}: {'equal' if first == second else 'different'}")
    ours, theirs = (
        {path.relative_to(index): path.read_bytes() for path in index.rglob("*") if path.is_file()}
        for index in (one, two)
    )
    differ = sorted(str(name) for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    size = sum(map(len, ours.values()))
    print(f"bytes of {len(ours)} files, {size:,} in all: " + (f"{differ[0]} differs" if differ else "equal"))
    return 1 if differ or first != second else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
