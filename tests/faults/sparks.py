"""A Spark in a process of its own, as a test speaks to it."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SMALL_FILES = {"bisieve.index.writer.ROWS_PER_FILE": 100, "bisieve.index.writer.ROWS_PER_GROUP": 30}
MANY_TASKS = {**SMALL_FILES, "bisieve.shards.listing.SMALLEST_TASK": 60_000}


@dataclass
class Driver:
    """A process that scores with its own Spark."""

    process: "subprocess.Popen[str]"
    log: Path

    def __call__(self, inputs: Any, index: Any, mishap: str | None = None, **more: Any) -> str | None:
        """Scores; returns the error, None where it went well.  `EOFError` when the driver died."""
        asked = {"options": {}, "constants": SMALL_FILES, "marker": "", **more}
        asked |= {"inputs": str(inputs), "index": str(index), "mishap": mishap}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        """What the process says next."""
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            raise EOFError(self.log.read_text()[-3000:])
        return json.loads(line)

    def close(self) -> None:
        """Ends it."""
        self.process.communicate()


StartDriver = Callable[..., Driver]
