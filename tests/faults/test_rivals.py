"""Two processes that publish at once."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from bisieve.io.storage import exists


def test_of_two_processes_that_publish_at_once_on_s3_one_wins_and_the_other_says_so(
    score_with_spark: Callable[..., Any],
    write_jsonl: Callable[..., Path],
    rollout: Callable[..., Any],
    s3: str,
    tmp_path: Path,
) -> None:
    index, meeting = f"{s3}/rivals", tmp_path / "meeting"
    meeting.mkdir()
    score_with_spark(write_jsonl("a.jsonl", [rollout(), rollout([1.0])]), index)
    script = str(Path(__file__).with_name("rival.py"))
    rivals = {
        alpha: subprocess.Popen(
            [sys.executable, script, str(meeting), index, index, alpha], stderr=subprocess.PIPE, text=True
        )
        for alpha in ("0.2", "0.3")
    }
    said = {alpha: rival.communicate()[1] for alpha, rival in rivals.items()}
    codes = {alpha: rival.returncode for alpha, rival in rivals.items()}
    assert sorted(codes.values()) == [0, 1], said
    won, lost = sorted(codes, key=lambda alpha: codes[alpha])
    assert "found a version written by another run" in said[lost]
    assert len(said[lost].splitlines()) == 1
    current = open_index(index)
    assert current.manifest.parameters.alpha == float(won)
    assert all(exists(f"{index}/{path}") for path in current.paths)
    assert read_selection(current, 1.0).rows.num_rows == 2
