"""What ``bisieve report`` can write a page about, beside an index: a run, an evaluation, and a sweep.

Loaded for each ``bisieve report``, so it imports nothing slow.
"""

from typing import TYPE_CHECKING

from bisieve.cli.report import Subject

if TYPE_CHECKING:
    from bisieve.report.page import Page


def _of_run(url: str, image_root: str | None) -> "Page":
    from ray_train.report.run import page

    return page(url)


def _of_metrics(url: str, image_root: str | None) -> "Page":
    from ray_train.report.metrics import page

    return page(url, image_root)


def _of_sweep(url: str, image_root: str | None) -> "Page":
    from ray_train.report.sweep import page

    return page(url)


RUN = Subject("the output of bisieve train", _of_run)
METRICS = Subject("what bisieve evaluate wrote: folder or metrics.json", _of_metrics, shows_images=True)
SWEEP = Subject("what bisieve sweep wrote: folder or sweep.json", _of_sweep)
