"""Spark needs a Java that pip cannot bring: looked for before Spark is started."""

import os
import re
import shutil
import subprocess

from bisieve.errors import UsageError

OLDEST = 17
_MEND = (
    "install one (Debian, Ubuntu: apt-get install openjdk-17-jre-headless; macOS: brew install openjdk@17)"
)


def check_java() -> int:
    """The version of the Java that Spark will start; `UsageError` where there is none from 17 on."""
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else shutil.which("java")
    if not java or not os.path.exists(java):
        raise UsageError(
            f"Java {OLDEST} or newer for Spark", f"no java at {java or 'any place on PATH'}", _MEND
        )
    answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', answer.stderr)
    if not found or int(found[1]) < OLDEST:
        said = answer.stderr.strip().splitlines()
        raise UsageError(f"Java {OLDEST} or newer for Spark", said[0] if said else f"a silent {java}", _MEND)
    return int(found[1])
