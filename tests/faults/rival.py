"""Ranks an index anew, and publishes at the very moment at which its rival does.

python rival.py MEETING INDEX OUTPUT ALPHA
"""

import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bisieve.cli.main import main
from bisieve.index import rerank

meeting, index, output, alpha = sys.argv[1:]
publish = rerank.publish


def when_both_are_there(*args: Any) -> None:
    (Path(meeting) / alpha).touch()
    while len(list(Path(meeting).iterdir())) < 2:
        time.sleep(0.002)
    publish(*args)


with patch("bisieve.index.rerank.publish", when_both_are_there):
    sys.exit(main(["rank", "--index", index, "--output", output, "--alpha", alpha]))
