"""The tracker for TensorBoard: writes event files to ``OUTPUT/tensorboard/RUN/…``.

On a local disk they are written in place. For an object store they are written to a scratch folder and
uploaded with each checkpoint.
"""

import shutil
from pathlib import Path

from bisieve.io.disk import scratch_folder
from bisieve.io.errors import storage_errors
from bisieve.io.storage import upload
from bisieve.io.urls import join, open_filesystem
from ray_train.tracking.base import Run


def start(run: Run) -> "TensorBoard":
    """Open an event file for ``run``; TensorBoard hides earlier starts' points beyond ``run.first_step``."""
    return TensorBoard(run)


class TensorBoard:
    """A `Tracker` that writes event files."""

    def __init__(self, run: Run) -> None:
        from tensorboardX import SummaryWriter

        url = join(run.output, "tensorboard", run.name)
        fs, path = open_filesystem(url)
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
        """Append the metrics to the event file."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step, walltime=seconds)

    def commit(self) -> None:
        """Flush the event file; upload all event files if the output is not on a local disk."""
        self._writer.flush()
        if self._url:
            for file in self._folder.iterdir():
                upload(file, join(self._url, file.name))

    def close(self, finished: bool) -> None:
        """Close and commit the event file, and remove the scratch folder."""
        self._writer.close()
        self.commit()
        if self._url:
            shutil.rmtree(self._folder, ignore_errors=True)
