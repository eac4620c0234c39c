"""A fork server that has imported torch, for the data workers of these tests."""

from multiprocessing import forkserver

import pytest


@pytest.fixture(scope="module", autouse=True)
def _fork_server_of_data_workers() -> None:
    """Stop the fork server of earlier tests: from the local engine's, each data worker would import torch."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
