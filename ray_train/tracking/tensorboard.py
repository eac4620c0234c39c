"""TensorBoard: events written where they belong on a disk, or uploaded with each checkpoint.

OUTPUT/tensorboard/RUN/…
"""

import shutil
from pathlib import Path

from bisieve.io import storage
from bisieve.io.errors import storage_errors
from bisieve.io.tempdirs import scratch_folder
from bisieve.io.upload import upload
from ray_train.tracking.base import Run


def start(run: Run) -> "TensorBoard":
    """The curves of ``run`` below its output; what they show past its first step is dropped."""
    return TensorBoard(run)


class TensorBoard:
    """A `Tracker` that writes event files."""

    def __init__(self, run: Run) -> None:
        from tensorboardX import SummaryWriter

        url = storage.join(run.output, "tensorboard", run.name)
        fs, path = storage.open_filesystem(url)
        self._url = None if "file" in fs.protocol else url
        self._folder = scratch_folder("curves") if self._url else Path(path)
        with storage_errors(url):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._writer = SummaryWriter(
            str(self._folder), purge_step=run.first_step + 1, filename_suffix=f".from-{run.first_step}"
        )
        for title, values in {"config": run.params, "lineage": run.lineage}.items():
            lines = (f"    {name} = {value}" for name, value in values.items())  # four spaces: verbatim
            self._writer.add_text(title, "\n".join(lines), run.first_step)

    def add(self, step: int, values: dict[str, float], seconds: float) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step, walltime=seconds)

    def commit(self) -> None:
        self._writer.flush()
        if self._url:
            for file in self._folder.iterdir():
                upload(file, storage.join(self._url, file.name))

    def close(self, finished: bool) -> None:
        self._writer.close()
        self.commit()
        if self._url:
            shutil.rmtree(self._folder, ignore_errors=True)
