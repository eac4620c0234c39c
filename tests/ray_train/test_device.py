"""GPUs where there are any, those that an autoscaler brings where they are asked for, and no silent CPUs."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
from support.forked_workers import ForkServer
from support.nodes import Nodes, started_nodes
from support.small_corpus import Corpus

from bisieve.errors import TrainingError
from ray_train.cli import IMPORTING
from ray_train.cluster import chosen_device, uses_gpus

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("grows", [False, True])
@pytest.mark.parametrize("device", ["auto", "gpu"])
def test_where_there_are_enough_gpus_they_are_used_without_a_word(device: str, grows: bool) -> None:
    assert chosen_device(device, 4, 4, grows) == (True, "")
    assert chosen_device("cpu", 4, 4, grows) == (False, "")


def test_a_cluster_that_has_some_gpus_is_waited_for_and_so_is_one_that_is_said_to_get_them() -> None:
    for device in ("auto", "gpu"):
        on_gpus, remark = chosen_device(device, 4, 3, grows=True)
        assert on_gpus
        assert remark == "waiting for GPUs: the cluster has 3, for 4 workers"
    assert chosen_device("gpu", 8, 0, grows=True)[0]


def test_a_machine_that_has_too_few_gpus_is_not_waited_for() -> None:
    on_gpus, remark = chosen_device("auto", 2, 1, grows=False)
    assert not on_gpus
    assert remark == "on CPUs: 1 GPU for 2 workers; --workers 1 uses them"
    assert chosen_device("auto", 2, 0, grows=False) == (False, "")
    with pytest.raises(TrainingError, match=r"2 GPUs on this machine.*found 1;.*another --device"):
        chosen_device("gpu", 2, 1, grows=False)


@pytest.mark.usefixtures("ray_cluster")
def test_a_cluster_without_gpus_computes_on_cpus_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert not uses_gpus(ray, "auto", 2)
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert not uses_gpus(ray, "auto", 2)
    assert "no node of the cluster has a GPU; --device gpu waits" in capsys.readouterr().out
    assert uses_gpus(ray, "gpu", 2)
    assert capsys.readouterr().out == "waiting for GPUs: the cluster has 0, for 2 workers\n"


@pytest.fixture
def nodes(free_ports: Callable[..., dict[str, int]], forks: ForkServer) -> Iterator[Nodes]:
    """A head alone, without a GPU."""
    with started_nodes(free_ports, forks, others=0) as nodes:
        yield nodes


def test_a_command_that_asks_for_gpus_waits_until_a_node_comes_that_has_one(
    nodes: Nodes, corpus: Corpus, internvl: Path, internvl_8b: Path, tmp_path: Path
) -> None:
    words = ["--benchmark", corpus.benchmark, "--image-root", corpus.images, "--output", str(tmp_path / "m")]
    words += ["--model", str(internvl), "--max-tiles", "1", "--workers", "1", "--device", "gpu"]
    command = ["python", str(ROOT / "ray_train/evaluate_mprm.py"), *words]
    environment = {**os.environ, **nodes.environment, "RAY_ADDRESS": nodes.gcs}
    evaluation = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE)
    assert evaluation.stdout is not None
    assert any("waiting for GPUs: the cluster has 0, for 1 worker" in line for line in evaluation.stdout)
    time.sleep(3)
    assert evaluation.poll() is None
    kind = '--resources={"accelerator_type:H100": 1}'  # the name alone: there is no GPU here
    nodes.add("--num-gpus=1", kind, f"--address={nodes.gcs}", "--min-worker-port=0", "--max-worker-port=0")
    said, _ = evaluation.communicate()
    assert evaluation.returncode == 0, said
    assert (tmp_path / "m" / "metrics.json").exists()

    # Its memory is known by its name: a model that it cannot hold is refused before any worker starts.
    words = ["--index", corpus.index, "--image-root", corpus.images, "--output", str(tmp_path / "model")]
    words += ["--backbone", str(internvl_8b), "--workers", "1"]
    command = ["python", str(ROOT / "ray_train/train_mprm.py"), *words]
    refused = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert refused.returncode == 1
    assert refused.stdout.splitlines() == [IMPORTING, f"using the Ray at RAY_ADDRESS={nodes.gcs}"]
    assert (
        "GiB of memory a device, estimated, with ZeRO 3 on 1 worker; found 74.5 GiB; give" in refused.stderr
    )
    assert len(refused.stderr.splitlines()) == 1
    assert not list((tmp_path / "model").glob("*"))
