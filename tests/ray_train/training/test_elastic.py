"""A run of ``--workers 1-2`` has as many workers as its cluster has room for."""

from collections.abc import Callable, Iterator

import pytest
from support.forked_workers import ForkServer
from support.nodes import Nodes, started_nodes
from support.runs import check_exact, start_driver
from support.stall import Stall

from ray_train.choices import Workers
from ray_train.config import TrainConfig

# Ray Train looks once a minute whether there is room for more workers.
LOOK_OFTEN = """
from functools import partialmethod
from ray.train.v2.api.config import ScalingConfig
ScalingConfig.__init__ = partialmethod(ScalingConfig.__init__, elastic_resize_monitor_interval_s=3)
"""


@pytest.fixture
def nodes(free_ports: Callable[..., dict[str, int]], forks: ForkServer) -> Iterator[Nodes]:
    """A head with room for one worker, alone."""
    with started_nodes(free_ports, forks, others=0) as nodes:
        yield nodes


@pytest.mark.timeout(900)  # Ray learns of a node every 20 s, and misses a lost one for longer
def test_a_run_grows_and_shrinks_with_its_cluster_and_learns_the_same(
    nodes: Nodes, settings: Callable[..., TrainConfig], trained: TrainConfig, stall: Stall
) -> None:
    config = settings(workers=Workers(1, 2), image_root=stall.images, data_workers=0, max_failures=3)
    driver = start_driver(config, LOOK_OFTEN, RAY_ADDRESS=nodes.gcs, **nodes.environment)
    with stall.run(config.output, nodes.add, lambda: nodes.kill(1)):
        assert driver.wait() == 0
    check_exact(config.output, trained.output, [1, 2, 1])
