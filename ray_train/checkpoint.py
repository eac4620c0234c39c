"""Checkpoints: a DeepSpeed state, a cursor into the order, and the log of what was trained on.

checkpoint/
  cursor.json            where the run stands, and which run it is
  deepspeed/state/…      each rank's part
  samples/from-S-rank-R.jsonl   rows that rank R trained on since it was started at step S
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bisieve.errors import TrainingError

_TAG = "state"


@dataclass
class Cursor:
    """Where a run stands; the same on all ranks."""

    identity: dict[str, Any]  # what makes two runs the same run
    step: int = 0  # optimizer steps done
    totals: dict[str, float] = field(default_factory=dict)  # counts over the run so far
    metrics: dict[str, float] = field(default_factory=dict)  # of the last step
    norms: list[float] = field(default_factory=list)  # of the gradients of the last steps


def check_identity(saved: Mapping[str, Any], ours: Mapping[str, Any], where: str) -> None:
    """`TrainingError` unless the run at ``where`` is ours; names what differs and the override."""
    differing = [name for name in sorted({*saved, *ours}) if saved.get(name) != ours.get(name)]
    if differing:
        theirs = ", ".join(f"{name} {saved.get(name)!r}" for name in differing)
        asked = ", ".join(f"{name} {ours.get(name)!r}" for name in differing)
        raise TrainingError(
            f"the run at {where} ({theirs})",
            f"another run ({asked})",
            "use the options of that run to resume it, another --output, or --restart to replace it",
        )


class SampleLog:
    """The rows one rank trained on, a JSON line a step: with a checkpoint they are committed."""

    def __init__(self, rank: int, first_step: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bisieve-samples-"))
        self._name = f"from-{first_step:08d}-rank-{rank:05d}.jsonl"

    def add(self, step: int, rows: list[int], rollout_ids: list[str]) -> None:
        with (self.folder / self._name).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "rows": rows, "rollout_ids": rollout_ids}) + "\n")

    def carry_over(self, checkpoint: Path) -> None:
        """Takes in the lines that a checkpoint holds."""
        shutil.copytree(checkpoint / "samples", self.folder, dirs_exist_ok=True)

    def close(self) -> None:
        """Forgets the lines that no checkpoint has."""
        shutil.rmtree(self.folder, ignore_errors=True)


def read_sample_logs(folder: Path) -> list[dict[str, Any]]:
    """All lines of the sample logs of a checkpoint."""
    files = sorted((folder / "samples").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


@contextmanager
def saved_checkpoint(engine: Any, cursor: Cursor, log: SampleLog, rank: int) -> Iterator[Path]:
    """A temporary folder with this rank's part of a checkpoint; all ranks must come here together."""
    with tempfile.TemporaryDirectory(prefix="bisieve-checkpoint-") as name:
        folder = Path(name)
        (folder / "deepspeed" / _TAG).mkdir(parents=True)
        engine.save_checkpoint(str(folder / "deepspeed"), tag=_TAG)
        shutil.copytree(log.folder, folder / "samples")
        if rank == 0:
            (folder / "cursor.json").write_text(json.dumps(asdict(cursor)), encoding="utf-8")
        yield folder


def restore(engine: Any, folder: Path, identity: Mapping[str, Any]) -> Cursor:
    """Loads the state in ``folder`` into ``engine``; `TrainingError` when it is another run's."""
    cursor = read_cursor(folder)
    check_identity(cursor.identity, identity, "the checkpoint")
    loaded, _ = engine.load_checkpoint(str(folder / "deepspeed"), tag=_TAG)
    if loaded is None:
        raise TrainingError("a DeepSpeed state beside the cursor", "none", "begin anew with --restart")
    return cursor


def read_cursor(folder: Path) -> Cursor:
    """The cursor of the checkpoint in ``folder``."""
    return Cursor(**json.loads((folder / "cursor.json").read_text(encoding="utf-8")))
