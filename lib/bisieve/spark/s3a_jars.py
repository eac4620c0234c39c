"""The jars that Spark itself would read ``s3a://`` with; bisieve needs none: it asks S3 in Python."""

import re
from pathlib import Path

from bisieve.doctor.check import Check

# The AWS SDK that hadoop-aws was built with, by its version: that of the pinned Spark's Hadoop.
AWS_SDK = {"3.5.0": "2.35.4"}
_GROUPS = {"hadoop-aws": "org.apache.hadoop", "bundle": "software.amazon.awssdk"}


def s3a(home: Path, file: Path) -> Check:
    """Whether hadoop-aws and its AWS SDK, if Spark is given them, are those of its Hadoop.

    They lie among the jars of Spark's ``home``, or are named in ``file``, of Spark's properties, which need
    not be there.
    """
    jars = home / "jars"
    hadoop = next(iter(_lying("hadoop-client-api", jars)), None)
    if hadoop is None:
        return Check("s3a", "warning", f"no hadoop-client-api in {jars}", "check SPARK_HOME")
    text = file.read_text() if file.is_file() else ""
    found = {jar: _lying(jar, jars) | _named(jar, text) for jar in _GROUPS}
    wanted = {"hadoop-aws": hadoop, **({"bundle": AWS_SDK[hadoop]} if hadoop in AWS_SDK else {})}
    use = ",".join(f"{_GROUPS[jar]}:{jar}:{version}" for jar, version in wanted.items())
    if not any(found.values()):
        return Check("s3a", "ok", f"not set up; s3:// works without, s3a:// needs {use}")
    said = ", ".join(f"{jar} {version}" for jar in found for version in sorted(found[jar]) or ["missing"])
    where = f"{said} in {jars} and {file}"
    if any(found[jar] - {version} for jar, version in wanted.items()):
        return Check("s3a", "failed", f"{where}, Hadoop is {hadoop}", f"use {use}")
    if not all(found.values()):  # --packages may bring the one with the other
        return Check("s3a", "warning", where, f"name both: {use}")
    if hadoop not in AWS_SDK:
        return Check("s3a", "warning", where, f"see which AWS SDK hadoop-aws {hadoop} was built with")
    return Check("s3a", "ok", use)


def _lying(jar: str, folder: Path) -> set[str]:
    """The versions of a jar in a folder."""
    names = (path.name for path in folder.glob(f"{jar}-*.jar"))
    return {match[1] for name in names if (match := re.fullmatch(rf"{jar}-(\d[\w.-]*)\.jar", name))}


def _named(jar: str, text: str) -> set[str]:
    """The versions that Spark's properties name, as ``group:jar:version`` or ``…/jar-version.jar``."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("#", "!")))
    package, file = rf"\b{re.escape(_GROUPS[jar])}:{jar}:([\w.-]+)", rf"/{jar}-(\d[\w.-]*)\.jar\b"
    return {*re.findall(package, lines), *re.findall(file, lines)}
