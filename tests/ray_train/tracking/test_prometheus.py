"""Prometheus gets the metrics of a run from Ray, and the Grafana dashboard shows them."""

import json
import re
import time
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import ray
from support.event_files import scalars

from bisieve.io import storage, urls
from ray_train.config import TrainConfig
from ray_train.tracking.prometheus import PREFIX, PROGRESS
from ray_train.training.validation import VALIDATION

DASHBOARD = Path(__file__).parents[3] / "infra/grafana/bisieve.json"


@ray.remote(num_cpus=0)
class Tracking:
    """A worker that tracks a run."""

    def begin(self) -> None:
        from ray_train.tracking.base import Run
        from ray_train.tracking.prometheus import start

        tracker = start(Run("abc-1", "", 2, {}, {}, print, 8))
        tracker.add(3, {"loss": 0.5}, 0.0)
        tracker.commit()


def scraped(port: int) -> dict[str, float]:
    """What Ray serves of the run, by name, once it serves the last of it."""
    for _ in range(240):
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        found = re.findall(r'^(\w+){.*run="abc-1".*} (\S+)$', text, re.MULTILINE)
        if any(name.endswith("checkpoint_step") for name, _ in found):
            return {name: float(value) for name, value in found}
        time.sleep(0.5)
    raise AssertionError(f"no gauges of the run:\n{text[-2000:]}")


def test_ray_serves_the_last_metrics_of_a_run_to_be_scraped(ray_cluster: None) -> None:
    (node,) = (one for one in ray.nodes() if one["Alive"])  # others were killed by other tests
    worker = Tracking.remote()
    ray.get(worker.begin.remote())
    assert scraped(node["MetricsExportPort"]) == {
        "ray_bisieve_total_steps": 8.0,
        "ray_bisieve_step": 3.0,
        "ray_bisieve_loss": 0.5,
        "ray_bisieve_checkpoint_step": 3.0,
    }


@pytest.fixture
def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def test_it_shows_all_metrics_of_a_run_and_no_other(
    panels: list[dict[str, Any]], trained: TrainConfig
) -> None:
    card = json.loads(storage.read_bytes(urls.join(trained.output, "bisieve.json")))
    curves = scalars(Path(trained.output.removeprefix("file://"), "tensorboard", card["run"]))
    shown = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(rf"ray_{PREFIX}(\w+)", target["expr"])
    }
    assert shown == {*curves, *PROGRESS, *VALIDATION, "mfu"}  # no MFU on a CPU


def test_its_panels_have_a_place_of_their_own(panels: list[dict[str, Any]]) -> None:
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        apart = [
            one[side] + one[size] <= other[side] or other[side] + other[size] <= one[side]
            for side, size in (("x", "w"), ("y", "h"))
        ]
        assert any(apart), (one, other)


def test_it_asks_the_prometheus_that_is_chosen(panels: list[dict[str, Any]]) -> None:
    sources = {target["datasource"]["uid"] for panel in panels for target in panel["targets"]}
    assert sources == {"${datasource}"}
