"""Write checkpoints, choose which to keep, and find the one to resume from.

    state ──`write_part`──▶ local copy ──▶ training goes on
                             └──upload in a thread──▶ store ──all ranks' parts there──▶ committed (Ray's list)

Ray Train's list of committed checkpoints only grows, and Ray expects each listed checkpoint to exist. So only
the cursor remains of a checkpoint that is not kept. A checkpoint without its parts is never resumed from.

Ray Train's controller stores the list beside the checkpoints. On a local disk it would overwrite the last
list in place, and a kill during this write would lose the run; `run_storage` makes it write a whole file.
"""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import ray.train
import torch.distributed as dist
from fsspec.implementations.local import LocalFileSystem
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train.v2.api.report_config import CheckpointConsistencyMode, CheckpointUploadMode

from bisieve.errors import StorageError, TrainingError
from bisieve.io import storage
from bisieve.io.errors import storage_errors
from bisieve.io.retry import Persistence, with_retries
from bisieve.io.storage import upload
from bisieve.io.urls import basename, join, open_filesystem
from ray_train.checkpoints.run_dir import RUNS
from ray_train.checkpoints.state import PART, Cursor, SampleLog, is_whole, write_part
from ray_train.config import TrainConfig
from ray_train.config_io import RUN_CONFIG, to_toml
from ray_train.distributed.collectives import run_on_all_ranks
from ray_train.registry.files import CURSOR

FOLDER = "checkpoint_"  # as Ray names them

Committed: TypeAlias = tuple[str, dict[str, float]]  # a checkpoint's folder, and the metrics it came with


class CheckpointManager:
    """One rank's access to the checkpoints of a run: write, keep, remove and find them."""

    def __init__(
        self,
        config: TrainConfig,
        run: str,
        say: Callable[[str], None],
        used: Mapping[str, Any] | None = None,  # resolved values of options that default to 'auto'
    ) -> None:
        self.url = join(config.output, RUNS, run)
        self.budget, self.keep_last = config.storage_budget, config.keep_checkpoints
        self.say = say
        self._refused = 0  # failures in a row to remove old checkpoints
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        self.notes = {RUN_CONFIG: to_toml(config, f"run {run}", used)} if self.rank == 0 else {}

    def newest(self) -> str | None:
        """Return the URL of the newest committed checkpoint that is whole, equal on all ranks.

        All ranks must call this together; it waits for checkpoints that are being written.

        Returns:
            None if the run has no committed checkpoint.

        Raises:
            TrainingError: There are committed checkpoints, but none is whole; raised on all ranks.
        """
        found = [run_on_all_ranks(self._newest_name if self.rank == 0 else lambda: None)]
        dist.broadcast_object_list(found)
        return None if found[0] is None else join(self.url, found[0])

    def _newest_name(self) -> str | None:
        committed = _committed()
        for name, _ in reversed(committed):
            if self._is_whole(name):
                return name
        if not committed:
            return None
        raise TrainingError(
            f"a complete checkpoint in {self.url}", "only incomplete ones", "start again with --restart"
        )

    def _is_whole(self, name: str) -> bool:
        return is_whole(join(self.url, name))

    def keep(self, engine: Any, cursor: Cursor, log: SampleLog) -> None:
        """Begin a checkpoint; all ranks must call this together.

        First waits until the previous checkpoint is committed. Returns as soon as this rank's part is written
        to this machine's disk; a thread then uploads it.

        Raises:
            DiskError: The disk of a rank's machine refused the part; raised on all ranks.
        """
        self.settle()
        folder = run_on_all_ranks(lambda: write_part(engine, cursor, log, self.rank, self.ranks, self.notes))
        ray.train.report(
            cursor.metrics,
            checkpoint=ray.train.Checkpoint.from_directory(folder),
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=self._upload,
        )

    def settle(self) -> None:
        """Wait until all checkpoints are committed; then rank 0 removes those that are not kept.

        If removing fails, the run goes on: a line says so, and the next call tries again.
        """
        committed = _committed()
        if self.rank == 0:
            try:
                remove_others(self.url, committed, kept(committed, self.keep_last, self._is_whole))
                self._refused = 0
            except StorageError as error:
                self._refused += 1
                again = f"try {self._refused + 1} comes with the next one"
                self.say(f"old checkpoints were not removed, {again}: {error}")

    def _upload(self, part: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
        upload_part(Path(part.path), join(self.url, name), self.budget)
        place = ray.train.get_context().get_storage()
        return ray.train.Checkpoint(place.build_checkpoint_path_from_name(name), place.storage_filesystem)


def _committed() -> list[Committed]:
    """Return all committed checkpoints, the oldest first; wait for those being written."""
    found = ray.train.get_all_reported_checkpoints(CheckpointConsistencyMode.COMMITTED)
    return [(basename(one.checkpoint.path), one.metrics) for one in found]


def kept(committed: Sequence[Committed], last: int, whole: Callable[[str], bool]) -> set[str]:
    """Return the names of the checkpoints to keep: the newest ones and the best one.

    Args:
        committed: All committed checkpoints, the oldest first.
        last: How many of the newest whole ones are kept.
        whole: Tells whether the checkpoint of a name is whole; called only as often as needed.

    Returns:
        The newest whole checkpoints, and the whole one with the lowest finite validation loss, if any.
    """
    newest = filter(whole, (name for name, _ in reversed(committed)))
    losses = {name: metrics.get("validation_loss", math.nan) for name, metrics in committed}
    validated = [name for name, loss in losses.items() if math.isfinite(loss)]
    best = filter(whole, sorted(validated, key=losses.__getitem__))
    return {*islice(newest, last), *islice(best, 1)}


def remove_others(run: str, committed: Sequence[Committed], kept: set[str]) -> None:
    """Remove all checkpoints that are not ``kept``; keep the cursor of committed ones.

    Args:
        run: URL of the folder with the run's checkpoints.
        committed: All committed checkpoints; others are leftovers of attempts that failed.
        kept: Names of checkpoints to leave unchanged.
    """
    fs, path = open_filesystem(run)
    listed = {name for name, _ in committed}
    with storage_errors(run):
        fs.invalidate_cache()
        folders = [entry["name"] for entry in fs.ls(path, detail=True) if entry["type"] == "directory"]
        for name in {basename(folder) for folder in folders} - kept:
            if name.startswith(FOLDER):
                entries = fs.ls(f"{path}/{name}", detail=False)
                stays = {CURSOR} if name in listed else set()
                going = [entry for entry in entries if basename(entry) not in stays]
                # The lists of parts first: a checkpoint that is half removed must not count as whole.
                for entry in sorted(going, key=lambda entry: not basename(entry).startswith(PART)):
                    fs.rm(entry, recursive=True)


def upload_part(part: Path, checkpoint: str, budget: float) -> None:
    """Upload a rank's part of a checkpoint, its list of files last.

    Args:
        part: Folder on this machine, from `write_part`.
        checkpoint: URL of the checkpoint.
        budget: Seconds that retries may take, over all files together.

    Raises:
        StorageError: The store refused for longer than ``budget``.
    """
    persistently = Persistence(budget)
    files = [file for file in part.rglob("*") if file.is_file()]
    for file in sorted(files, key=lambda file: file.name.startswith(PART)):
        url = join(checkpoint, file.relative_to(part).as_posix())
        persistently(partial(upload, file, url))


def run_storage(url: str) -> dict[str, Any]:
    """Return the arguments of Ray Train's `RunConfig` that make it store a run at ``url``."""
    fs, path = open_filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        # A cached listing would hide what another worker has written since.
        fs = type(fs)(**fs.storage_options, use_listings_cache=False)
    return {"storage_path": path, "storage_filesystem": PyFileSystem(PatientHandler(fs))}


class PatientHandler(FSSpecHandler):  # type: ignore[misc]
    """fsspec file system for pyarrow that retries transient errors and reads and writes whole files."""

    def get_file_info(self, paths: Any) -> Any:
        """Return pyarrow's file infos of ``paths``."""
        return with_retries(partial(super().get_file_info, paths))

    def get_file_info_selector(self, selector: Any) -> Any:
        """Return pyarrow's file infos of the files that ``selector`` describes."""
        return with_retries(partial(super().get_file_info_selector, selector))

    def create_dir(self, path: str, recursive: bool) -> None:
        """Create a folder, with its parents if ``recursive``."""
        with_retries(partial(super().create_dir, path, recursive))

    def open_input_stream(self, path: str) -> Any:
        """Read the whole file; return a stream over its bytes in memory."""
        data = storage.read_bytes(self.fs.unstrip_protocol(path))
        return pa.PythonFile(io.BytesIO(data), mode="r")

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        """Return a stream that collects the bytes in memory and writes the file when it is closed."""
        write = partial(storage.write_bytes, self.fs.unstrip_protocol(path))
        return pa.PythonFile(_WrittenWhole(write), mode="w")


class _WrittenWhole(io.BytesIO):
    """Buffer that passes all its bytes to ``write``, once, when it is closed."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        super().__init__()
        self._write = write

    def close(self) -> None:
        if not self.closed:
            data = self.getvalue()
            super().close()
            self._write(data)
