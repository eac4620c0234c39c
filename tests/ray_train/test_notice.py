"""SIGTERM, at the driver and at a worker: the run is saved, ends with its own exit code, and can go on."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import check_learned_the_same, last_checkpoint, worker_pids

from bisieve.errors import PreemptedError
from ray_train.checkpoint import read_cursor
from ray_train.config import TrainConfig
from ray_train.launch import train

Settings = Callable[..., TrainConfig]


@pytest.mark.parametrize("at", ["driver", "worker"])
def test_sigterm_saves_the_run_and_the_same_command_goes_on(
    at: str, settings: Settings, trained: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(checkpoint_every=100, epochs=1)
    output = Path(config.output)

    def terminate() -> None:
        while "step 1/" not in "".join(seen):
            time.sleep(0.02)
            seen.append(capsys.readouterr().out)
        os.kill(os.getpid() if at == "driver" else worker_pids()[-1], signal.SIGTERM)

    seen: list[str] = []
    threading.Thread(target=terminate, daemon=True).start()
    started = time.time()
    with pytest.raises(PreemptedError, match=r"stopped after step (\d) of 8 with a checkpoint") as caught:
        train(config)
    print("STOP", time.time() - started, caught.value)
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is not None
    stopped = read_cursor(last_checkpoint(output)).step
    assert 0 < stopped < 8
    started = time.time()
    train(config)
    print("RESUME", time.time() - started)
    assert f"resumed at step {stopped} of 8" in capsys.readouterr().out
    check_learned_the_same(config.output, trained.output)
