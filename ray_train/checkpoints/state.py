"""The content of a checkpoint: training state, cursor into the order, and log of the rows trained on.

checkpoint_…/
  cursor.json                         step and totals of the run, and the run's identity
  config.toml                         the run's options
  rank-R.KIND.safetensors             rank R's fragments of the parameters, or of one of AdamW's two moments
  samples/from-S-rank-R.jsonl         rows that rank R trained on since it was started at step S
  part-R-of-N.json                    the files that rank R wrote, with sizes; written last

A checkpoint is whole if the lists of all N parts exist and all listed files have the listed sizes. It can be
restored on any number of ranks and at any ZeRO stage.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from fsspec.implementations.local import LocalFileSystem
from safetensors import safe_open
from safetensors.torch import save_file

from bisieve.errors import DiskError, TrainingError
from bisieve.io import storage
from bisieve.io.disk import passing_folder, scratch_errors, scratch_folder
from bisieve.io.errors import storage_errors
from bisieve.io.retry import with_retries
from bisieve.io.urls import basename, join, open_filesystem
from ray_train.compat.deepspeed import KINDS, Fragment, fragments, steps_done, sync_model_weights
from ray_train.distributed.collectives import run_on_all_ranks
from ray_train.registry.files import CURSOR

PART = "part-"
SAMPLES = "samples"


@dataclass
class Cursor:
    """Position of a run in its order, and what it has counted so far; equal on all ranks."""

    identity: dict[str, Any]  # two runs with equal identities are the same run
    step: int = 0  # optimizer steps done
    totals: dict[str, float] = field(default_factory=dict)  # counts over the run so far
    metrics: dict[str, float] = field(default_factory=dict)  # of the last step, and of its validation if any
    norms: list[float] = field(default_factory=list)  # gradient norms of the last steps, the oldest first
    broken: dict[str, str] = field(default_factory=dict)  # images whose rollouts were left out, and why


class SampleLog:
    """Log of the rows that one rank trained on, one JSON line per step; stored with each checkpoint.

    A failed write does not raise but sets ``error``: the training loop raises it on all ranks together, in
    the next collective.
    """

    def __init__(self, rank: int, first_step: int) -> None:
        self.folder = scratch_folder("samples")
        self.error: DiskError | None = None
        self._name = f"from-{first_step:08d}-rank-{rank:05d}.jsonl"

    def add(self, step: int, rows: list[int], rollout_ids: list[str], loss: float) -> None:
        """Append a line for one step; if the disk refuses it, set ``error``."""
        line = {"step": step, "loss": loss, "rows": rows, "rollout_ids": rollout_ids}
        try:
            with scratch_errors(self.folder), (self.folder / self._name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except DiskError as error:
            self.error = error

    def carry_over(self, checkpoint: str) -> None:
        """Copy the logs of the checkpoint at this URL, so that the next checkpoint contains them."""
        with scratch_errors(self.folder):
            for file in storage.list_files(join(checkpoint, SAMPLES)):
                (self.folder / basename(file.url)).write_bytes(storage.read_bytes(file.url))

    def close(self) -> None:
        """Remove the log's local folder, with any lines that no checkpoint contains."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write_part(
    engine: Any, cursor: Cursor, log: SampleLog, rank: int, ranks: int, notes: Mapping[str, str]
) -> Path:
    """Write this rank's part of a checkpoint into a new folder on this machine; the caller removes it.

    Args:
        engine: DeepSpeed's engine.
        cursor: Written by rank 0.
        log: Copied into the part.
        rank: This rank.
        ranks: Number of ranks.
        notes: Text files to add, by name.

    Raises:
        DiskError: The machine's disk refuses the part, or has refused a line of ``log``.
    """
    if log.error:
        raise log.error
    folder = scratch_folder("checkpoint")
    try:
        with scratch_errors(folder):
            for note, text in notes.items():
                (folder / note).write_text(text, encoding="utf-8")
            _write_files(engine, cursor, log, rank, folder, f"{PART}{rank:05d}-of-{ranks:05d}.json")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _write_files(engine: Any, cursor: Cursor, log: SampleLog, rank: int, folder: Path, name: str) -> None:
    pieces = fragments(engine)
    for kind in KINDS:  # one kind at a time needs a third of the memory
        tensors = {piece.name: piece.tensor(kind).detach().to("cpu", copy=True) for piece in pieces}
        save_file(tensors, folder / _state_file(rank, kind))
    shutil.copytree(log.folder, folder / SAMPLES)
    if rank == 0:
        (folder / CURSOR).write_text(json.dumps(asdict(cursor)), encoding="utf-8")
    files = [file for file in folder.rglob("*") if file.is_file()]
    part = {
        "files": {file.relative_to(folder).as_posix(): file.stat().st_size for file in files},
        "fragments": {piece.name: [piece.start, piece.end] for piece in pieces},
        "steps": steps_done(engine),
    }
    (folder / name).write_text(json.dumps(part), encoding="utf-8")


def is_whole(checkpoint: str) -> bool:
    """Return whether the checkpoint at this URL has all ranks' parts, and all listed files in full size."""
    sizes = {basename(file.url): file.size for file in storage.stored_files(checkpoint)}
    names = [name for name in sizes if name.startswith(PART)]
    if not names or {name.rsplit("-", 1)[-1] for name in names} != {f"{len(names):05d}.json"}:
        return False
    try:
        parts = [json.loads(storage.read_bytes(join(checkpoint, name))) for name in names]
    except ValueError:  # truncated JSON
        return False
    named = {name: size for part in parts for name, size in part["files"].items()}
    return all(sizes.get(basename(name)) == size for name, size in named.items())


def read_cursor(checkpoint: str) -> Cursor:
    """Read the cursor of the checkpoint at this URL."""
    return Cursor(**json.loads(storage.read_bytes(join(checkpoint, CURSOR))))


def restore(engine: Any, checkpoint: str) -> None:
    """Load the state of a checkpoint into ``engine``; all ranks must call this together.

    The checkpoint may come from another number of ranks or another ZeRO stage. A rank reads only the files
    that overlap with its fragments.

    Raises:
        TrainingError: The checkpoint lacks elements of the trained parameters; raised on all ranks.
        StorageError: The checkpoint cannot be read; raised on all ranks.
    """
    pieces = fragments(engine)
    steps = run_on_all_ranks(lambda: _read_pieces(pieces, checkpoint))
    sync_model_weights(engine, steps)


def _read_pieces(ours: Sequence[Fragment], checkpoint: str) -> int:
    names = [basename(file.url) for file in storage.list_files(checkpoint)]
    names = sorted(name for name in names if name.startswith(PART))
    parts = [json.loads(storage.read_bytes(join(checkpoint, name))) for name in names]
    missing = sum(piece.size for piece in ours)
    for rank, part in enumerate(parts):
        shared = [piece for piece in ours if _overlap(piece, part["fragments"])]
        missing -= sum(len(_overlap(piece, part["fragments"])) for piece in shared)
        if shared:
            for kind in KINDS:
                _fill(shared, part["fragments"], kind, join(checkpoint, _state_file(rank, kind)))
    if missing:
        found = f"{missing} elements are missing"
        raise TrainingError(f"all trained parameters in {checkpoint}", found, "start again with --restart")
    return int(parts[0]["steps"])


def _overlap(piece: Fragment, saved: Mapping[str, Sequence[int]]) -> range:
    """Return the range of elements of a parameter that ``piece`` shares with the saved fragment of it."""
    start, end = saved.get(piece.name, (0, 0))
    return range(max(start, piece.start), min(end, piece.end))


def _fill(ours: Sequence[Fragment], saved: Mapping[str, Sequence[int]], kind: str, url: str) -> None:
    fs, path = open_filesystem(url)
    if isinstance(fs, LocalFileSystem):
        with storage_errors(url):
            _fill_from(path, ours, saved, kind)
        return
    # `passing_folder` is the inner block: an error of this machine's disk must not count as one of the store.
    with storage_errors(url), passing_folder("restore") as folder:
        copy = str(folder / "state")
        with_retries(lambda: fs.get_file(path, copy))
        _fill_from(copy, ours, saved, kind)


@torch.no_grad()
def _fill_from(path: str, ours: Sequence[Fragment], saved: Mapping[str, Sequence[int]], kind: str) -> None:
    with safe_open(path, "pt") as file:
        for piece in ours:
            shared, start = _overlap(piece, saved), saved[piece.name][0]
            read = file.get_slice(piece.name)[shared.start - start : shared.stop - start]
            piece.tensor(kind)[shared.start - piece.start : shared.stop - piece.start] = read


def _state_file(rank: int, kind: str) -> str:
    return f"rank-{rank:05d}.{kind}.safetensors"
