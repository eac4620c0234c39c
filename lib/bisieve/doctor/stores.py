"""Check stores: try on a few bytes the operations that a run will need.

Inputs are listed and read by range. In outputs a scratch key is written, overwritten and removed, and the
store's clock is compared with this machine's.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from secrets import token_hex

from bisieve._text import pluralize
from bisieve.doctor.checks import Check, DoctorTargets, attempted
from bisieve.errors import StorageError
from bisieve.io.conditional import read_pointer, replace_pointer
from bisieve.io.errors import storage_errors
from bisieve.io.storage import list_files, stored_files
from bisieve.io.urls import is_local, join, open_filesystem

MOST_SKEW = 60.0  # seconds; S3 refuses requests whose signature is 15 minutes off
SCRATCH = ".bisieve-doctor-"


def examine(targets: DoctorTargets) -> Iterator[Check]:
    """Yield the checks of all inputs and outputs; a failed listing or write skips the rest of its URL."""
    for url in targets.inputs:
        listed = attempted("list", partial(_list, url))
        yield listed
        if listed.state == "ok":
            yield attempted("read a range", partial(_read_range, url))
    for url in targets.outputs:
        yield from _write_checks(url)


def _list(url: str) -> Check:
    files = list_files(url)
    megabytes = sum(file.size for file in files) / 1e6
    return Check("list", "ok", f"{pluralize(len(files), 'file')}, {megabytes:.1f} MB at {url}")


def _read_range(url: str) -> Check:
    """Check that the store serves byte ranges: read up to 64 bytes from the middle of the largest file."""
    largest = max(list_files(url), key=lambda file: file.size, default=None)
    if largest is None or largest.size == 0:
        return Check("read a range", "warning", f"no file that is not empty at {url}", "check the URL")
    start, end = largest.size // 2, min(largest.size // 2 + 64, largest.size)
    fs, path = open_filesystem(largest.url)
    with storage_errors(largest.url):
        data = fs.cat_file(path, start=start, end=end)
    if len(data) != end - start:
        return Check(
            "read a range", "failed", f"{len(data)} bytes of the {end - start} asked for, of {largest.url}",
            "shards are read by ranges: use a store that serves them",
        )  # fmt: skip
    return Check("read a range", "ok", f"{len(data)} bytes from {start:,} on, of {largest.url}")


def _write_checks(url: str) -> Iterator[Check]:
    scratch = join(url, f"{SCRATCH}{token_hex(8)}")
    key = join(scratch, "key")
    fs, path = open_filesystem(scratch)
    made = _missing_folders(os.path.dirname(path)) if is_local(url) else []
    try:
        written = attempted("write", partial(_write, url, key))
        yield written
        if written.state == "failed":
            return
        yield attempted("overwrite", partial(_overwrite, url, key))
        yield attempted("clock", partial(_clock, scratch, key))
    finally:
        with suppress(StorageError), storage_errors(scratch):
            fs.rm(path, recursive=True)
        for folder in made:
            with suppress(OSError):
                os.rmdir(folder)


def _missing_folders(path: str) -> list[str]:
    """Return the folders up to ``path`` that do not exist, the innermost first."""
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    return missing


def _write(url: str, key: str) -> Check:
    replace_pointer(read_pointer(key), b"one")
    return Check("write", "ok", f"a scratch key at {url}, removed again")


def _overwrite(url: str, key: str) -> Check:
    """Check that the store refuses a write based on an outdated read (compare-and-swap).

    Publishing an index relies on it: its manifest is replaced this way.
    """
    seen = read_pointer(key)
    replace_pointer(seen, b"two")
    try:
        replace_pointer(seen, b"three")
    except StorageError:
        return Check("overwrite", "ok", f"a write based on an outdated read is refused at {url}")
    return Check(
        "overwrite", "failed", f"a write based on an outdated read was accepted at {url}",
        "use a store with conditional writes (If-Match), or let one run at a time write there",
    )  # fmt: skip


def _clock(scratch: str, key: str) -> Check:
    """Compare the store's clock with this machine's, by the modification time of a file just written."""
    replace_pointer(read_pointer(key), b"now")
    (file,) = (file for file in stored_files(scratch) if file.url.endswith("/key"))
    return skew(file.modified - time.time())


def skew(seconds: float) -> Check:
    """Check a store whose clock is ``seconds`` ahead of this machine's (negative: behind)."""
    said = f"the store's is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} ours"
    if abs(seconds) > MOST_SKEW:
        return Check("clock", "failed", said, "set the clock by NTP: S3 refuses what is signed too far off")
    return Check("clock", "ok", said)
