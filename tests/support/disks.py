"""Programs on a disk that is full, small, read-only or another user's."""

import os
import shlex
import subprocess
from pathlib import Path

# In a mount namespace of its own, so that no mount outlives it.
_MOUNTS = {
    "full": "mount -t tmpfs -o size=16k none {disk} && head -c 16384 /dev/zero >{disk}/filled",
    "small": "mount -t tmpfs -o size=16k none {disk}",
    "read-only": "mount -t tmpfs -o ro none {disk}",
    "another user's": "mount -t tmpfs -o mode=755 none {disk}",
}
# What an error says of a file of such a disk: what was expected, and the disk's own words.
REFUSALS = {
    "full": "expected room for {file}; found No space left on device: 0.0 MB free in {disk}.*; free space .*",
    "read-only": "expected a disk that can be written at {file}; found Read-only file system; .*",
    "another user's": "expected permission to use {file}; found Permission denied: user 65534 .*; .*",
}
REFUSALS["small"] = REFUSALS["full"]
_AS_NOBODY = "setpriv --reuid 65534 --clear-groups"


def run_on(kind: str, disk: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run ``command`` where ``disk`` is a disk of this ``kind``; it ends with what is left there."""
    who = _AS_NOBODY if kind == "another user's" else ""
    mounted = _MOUNTS[kind].format(disk=disk)
    script = f"{mounted} && {{ {who} {shlex.join(command)}; code=$?; find {disk} -type f; exit $code; }}"
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False,
        env={**os.environ, "HOME": "/nonexistent"},
    )  # fmt: skip
