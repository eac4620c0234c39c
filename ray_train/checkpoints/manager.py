"""Write checkpoints, choose which to keep, and find the one to resume from.

    state ──copied to this machine──▶ training goes on
                     └──a thread──▶ store ──all ranks' parts there──▶ Ray's list: committed

Ray Train's list of committed checkpoints only grows.  Of one that is not kept, the cursor stays: Ray wants
all that it lists to be there, and a checkpoint without its parts is never chosen.

Ray's controller keeps its list of committed checkpoints there.  On a disk it would write over the last one,
and a kill in the midst of it would lose the run.
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
from bisieve.io.retry import with_retries
from bisieve.io.upload import Persistence, upload
from ray_train.checkpoints.run_dir import RUNS
from ray_train.checkpoints.state import CURSOR, PART, Cursor, SampleLog, is_whole, write_part
from ray_train.config import TrainConfig
from ray_train.distributed.collectives import run_on_all_ranks
from ray_train.run_config import RUN_CONFIG, to_toml

FOLDER = "checkpoint_"  # as Ray names them

Committed: TypeAlias = tuple[str, dict[str, float]]  # a checkpoint's folder, and the metrics it came with


class CheckpointManager:
    """The checkpoints of a run, seen from one of its ranks."""

    def __init__(
        self,
        config: TrainConfig,
        run: str,
        say: Callable[[str], None],
        used: Mapping[str, Any] | None = None,  # what options came to that leave a choice open
    ) -> None:
        self.url = storage.join(config.output, RUNS, run)
        self.budget, self.keep_last = config.storage_budget, config.keep_checkpoints
        self.say = say
        self._refused = 0  # times that old checkpoints could not be removed, one after the other
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        self.notes = {RUN_CONFIG: to_toml(config, f"run {run}", used)} if self.rank == 0 else {}

    def newest(self) -> str | None:
        """The URL of the last committed checkpoint that is whole, the same on all ranks; None without any.

        `TrainingError` when there are some and none is whole.
        """
        found = [run_on_all_ranks(self._newest_name if self.rank == 0 else lambda: None)]
        dist.broadcast_object_list(found)
        return None if found[0] is None else storage.join(self.url, found[0])

    def _newest_name(self) -> str | None:
        committed = _committed()
        for name, _ in reversed(committed):
            if self._is_whole(name):
                return name
        if not committed:
            return None
        raise TrainingError(
            f"a whole checkpoint in {self.url}", "none but torn ones", "start again with --restart"
        )

    def _is_whole(self, name: str) -> bool:
        return is_whole(storage.join(self.url, name))

    def keep(self, engine: Any, cursor: Cursor, log: SampleLog) -> None:
        """Begins a checkpoint; waits for the one before, so that no two are under way.

        Returns as soon as this rank's part is a copy on this machine.
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
        """Waits until all that was begun is committed, and removes what is not to be kept."""
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
        upload_part(Path(part.path), storage.join(self.url, name), self.budget)
        place = ray.train.get_context().get_storage()
        return ray.train.Checkpoint(place.build_checkpoint_path_from_name(name), place.storage_filesystem)


def _committed() -> list[Committed]:
    """All committed checkpoints, the first one first; waits for those under way."""
    found = ray.train.get_all_reported_checkpoints(CheckpointConsistencyMode.COMMITTED)
    return [(storage.basename(one.checkpoint.path), one.metrics) for one in found]


def kept(committed: Sequence[Committed], last: int, whole: Callable[[str], bool]) -> set[str]:
    """The last ones, and the one of the lowest validation loss, if there is such a thing, of those whole."""
    newest = filter(whole, (name for name, _ in reversed(committed)))
    losses = {name: metrics.get("validation_loss", math.nan) for name, metrics in committed}
    validated = [name for name, loss in losses.items() if math.isfinite(loss)]
    best = filter(whole, sorted(validated, key=losses.__getitem__))
    return {*islice(newest, last), *islice(best, 1)}


def remove_others(run: str, committed: Sequence[Committed], kept: set[str]) -> None:
    """Removes the checkpoints below ``run`` that are not kept; of committed ones the cursor stays."""
    fs, path = storage.open_filesystem(run)
    listed = {name for name, _ in committed}
    with storage_errors(run):
        fs.invalidate_cache()
        folders = [entry["name"] for entry in fs.ls(path, detail=True) if entry["type"] == "directory"]
        for name in {storage.basename(folder) for folder in folders} - kept:
            if name.startswith(FOLDER):
                entries = fs.ls(f"{path}/{name}", detail=False)
                stays = {CURSOR} if name in listed else set()
                going = [entry for entry in entries if storage.basename(entry) not in stays]
                # Its parts first: what is half removed must not be taken for whole.
                for entry in sorted(going, key=lambda entry: not storage.basename(entry).startswith(PART)):
                    fs.rm(entry, recursive=True)


def upload_part(part: Path, checkpoint: str, budget: float) -> None:
    """Uploads a rank's part, its list of files last.

    `StorageError` when a store has refused for more than ``budget`` seconds, all its refusals together.
    """
    persistently = Persistence(budget)
    files = [file for file in part.rglob("*") if file.is_file()]
    for file in sorted(files, key=lambda file: file.name.startswith(PART)):
        url = storage.join(checkpoint, file.relative_to(part).as_posix())
        persistently(partial(upload, file, url))


def run_storage(url: str) -> dict[str, Any]:
    """The part of Ray Train's `RunConfig` that says where a run lies."""
    fs, path = storage.open_filesystem(url)
    if not isinstance(fs, LocalFileSystem):
        # A listing kept from before a write would hide what another worker wrote since.
        fs = type(fs)(**fs.storage_options, use_listings_cache=False)
    return {"storage_path": path, "storage_filesystem": PyFileSystem(PatientHandler(fs))}


class PatientHandler(FSSpecHandler):  # type: ignore[misc]
    """An fsspec file system for pyarrow, whose requests are begun anew when a store is out of sorts."""

    def get_file_info(self, paths: Any) -> Any:
        return with_retries(partial(super().get_file_info, paths))

    def get_file_info_selector(self, selector: Any) -> Any:
        return with_retries(partial(super().get_file_info_selector, selector))

    def create_dir(self, path: str, recursive: bool) -> None:
        with_retries(partial(super().create_dir, path, recursive))

    def open_input_stream(self, path: str) -> Any:
        data = storage.read_bytes(self.fs.unstrip_protocol(path))
        return pa.PythonFile(io.BytesIO(data), mode="r")

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        write = partial(storage.write_bytes, self.fs.unstrip_protocol(path))
        return pa.PythonFile(_WrittenWhole(write), mode="w")


class _WrittenWhole(io.BytesIO):
    """Hands over all that was written, once, when it is closed."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        super().__init__()
        self._write = write

    def close(self) -> None:
        if not self.closed:
            data = self.getvalue()
            super().close()
            self._write(data)
