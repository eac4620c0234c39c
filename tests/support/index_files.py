"""The files of an index, to compare two of them byte for byte."""

from pathlib import Path


def contents(index: Path) -> dict[str, bytes]:
    """Return the bytes of all files of an index on a disk, by their path relative to it."""
    return {str(path.relative_to(index)): path.read_bytes() for path in index.rglob("*") if path.is_file()}
