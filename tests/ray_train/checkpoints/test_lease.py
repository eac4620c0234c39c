"""One driver at a time at an output, on a disk and in a store."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bisieve.errors import DiskError, PreemptedError, StorageError, TrainingError
from bisieve.io import storage
from ray_train.checkpoints import lease
from ray_train.checkpoints.lease import Driver, is_dead, leased, this_driver
from ray_train.registry.files import LEASE

pytestmark = pytest.mark.usefixtures("ctrl_c_as_python_has_it")

ELSEWHERE = replace(this_driver(), token="theirs", host="elsewhere", pid=7, machine="elsewhere since May")


@pytest.fixture(params=["disk", "store"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return str(tmp_path / "output")
    return f"{request.getfixturevalue('s3')}/leases/{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def renewed_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEWED_EVERY", 0.4)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, a driver that lives is not taken for dead."""
    monkeypatch.setattr(lease, "WATCHED_FOR", 100)


def holder(output: str) -> Driver:
    return Driver(**json.loads(storage.read_bytes(f"{output}/{LEASE}")))


def write(output: str, driver: Driver) -> None:
    storage.write_bytes(f"{output}/{LEASE}", json.dumps(asdict(driver)).encode())


def test_the_lease_names_its_driver_is_renewed_and_is_gone_at_the_end(output: str) -> None:
    said: list[str] = []
    with leased(output, said.append):
        first = holder(output)
        assert (first.pid, first.renewed) == (os.getpid(), 0)
        _wait_for(lambda: holder(output).renewed >= 2)
        assert holder(output).token == first.token
    assert not storage.exists(f"{output}/{LEASE}")
    assert not said


@pytest.mark.parametrize("error", [TrainingError("a", "b", "c"), KeyboardInterrupt(), SystemExit(1)])
def test_it_is_gone_however_the_run_ends(error: BaseException, tmp_path: Path) -> None:
    with pytest.raises(type(error)), leased(str(tmp_path), print):
        raise error
    assert not (tmp_path / LEASE).exists()


@pytest.mark.usefixtures("patient")
def test_who_finds_a_driver_at_work_waits_for_a_sign_of_it_and_is_refused(output: str) -> None:
    with leased(output, print):
        said: list[str] = []
        refused = pytest.raises(TrainingError, match=rf"found process {os.getpid()} on .*; wait for its end")
        with refused, leased(output, said.append):
            pytest.fail("two drivers at once")
        assert len(said) == 1
        assert f"{LEASE} is held by process {os.getpid()} on " in said[0]
        assert holder(output).pid == os.getpid(), "the other one still has it"


@pytest.mark.parametrize("left", [json.dumps(asdict(ELSEWHERE)).encode(), b'{"tok'], ids=["whole", "torn"])
def test_a_lease_of_another_machine_that_stays_as_it_is_is_taken_over(left: bytes, output: str) -> None:
    storage.write_bytes(f"{output}/{LEASE}", left)
    said: list[str] = []
    begun = time.monotonic()
    with leased(output, said.append):
        assert time.monotonic() - begun > 0.4, "longer than it takes to renew it"
        assert holder(output).pid == os.getpid()
    assert len(said) == 1


def test_a_lease_that_is_given_back_meanwhile_is_taken_at_once(tmp_path: Path) -> None:
    write(str(tmp_path), ELSEWHERE)
    with leased(str(tmp_path), lambda line: (tmp_path / LEASE).unlink()):
        assert holder(str(tmp_path)).pid == os.getpid()


def test_of_a_process_of_this_machine_that_is_gone_nothing_is_waited_for(tmp_path: Path) -> None:
    with _sleeper() as other:
        stranger = replace(this_driver(), pid=other.pid)
        assert is_dead(stranger), "its number was given to another process since"
        theirs = replace(stranger, started=_started(other.pid))
        assert not is_dead(theirs)
        assert not is_dead(replace(theirs, machine="a container beside this one", pid=2**22 + 1))
        other.kill()
        _wait_for(lambda: is_dead(theirs))  # nobody has asked yet how it ended: it is a zombie
    assert is_dead(theirs)
    write(str(tmp_path), theirs)
    said: list[str] = []
    with leased(str(tmp_path), said.append):
        assert holder(str(tmp_path)).pid == os.getpid()
    assert not said


@pytest.mark.usefixtures("patient")
def test_of_two_that_come_at_once_one_gets_it(output: str) -> None:
    write(output, replace(this_driver(), pid=2**22 + 1))
    inside, refused, both = [], [], threading.Barrier(2)

    def come() -> None:
        both.wait()
        try:
            with leased(output, lambda line: None):
                inside.append(1)
                _wait_for(lambda: bool(refused))
        except TrainingError:
            refused.append(1)

    threads = [threading.Thread(target=come) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (inside, refused) == ([1], [1])


def test_a_driver_that_was_taken_for_dead_ends_when_it_sees_the_other(output: str) -> None:
    def work() -> None:
        with leased(output, print):
            write(output, ELSEWHERE)
            time.sleep(60)

    with pytest.raises(TrainingError, match="that process 7 on elsewhere took it over"):
        work()
    assert holder(output) == ELSEWHERE


def test_a_driver_whose_lease_was_taken_and_given_back_meanwhile_ends_too(output: str) -> None:
    def work() -> None:
        with leased(output, print):
            storage.remove([f"{output}/{LEASE}"])
            time.sleep(60)

    with pytest.raises(TrainingError, match="a machine unknown took it over"):
        work()
    assert not storage.exists(f"{output}/{LEASE}")


@pytest.mark.parametrize("ray_is_up", [False, True])
def test_sigterm_before_it_is_handled_gives_the_lease_back(ray_is_up: bool, tmp_path: Path) -> None:
    def work() -> None:
        with leased(str(tmp_path), print):
            if ray_is_up:
                signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))  # as Ray does
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(PreemptedError) as ended:
            work()
        assert ended.value.exit_code == 143
        assert not (tmp_path / LEASE).exists()
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def _started(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def _wait_for(holds: Any) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_renewal_that_a_store_refuses_is_said_with_its_number_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refused = StorageError("a response from the store", "503", "check the URL")
    answers, renewed = [refused, refused], threading.Event()

    def renew(url: str, driver: Driver) -> None:
        if answers:
            raise answers.pop()
        renewed.set()

    monkeypatch.setattr(lease, "_renewed", renew)
    with leased(str(tmp_path), print):
        assert renewed.wait(60)
    said = [record.getMessage() for record in caplog.records if record.name == "bisieve.retries"]
    assert said == [
        f"lease {tmp_path}/{LEASE}: try {number} in 0.4 s, after StorageError: {refused}" for number in (2, 3)
    ]


def test_a_disk_that_refuses_a_renewal_is_said_once_and_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = DiskError(f"room for {tmp_path}", "No space left on device", "free space there")
    refused, room, renewed, said = [], threading.Event(), threading.Event(), list[str]()

    def renew(url: str, driver: Driver) -> None:
        if room.is_set():
            renewed.set()
            return
        refused.append(driver)
        raise full

    monkeypatch.setattr(lease, "_renewed", renew)
    with leased(str(tmp_path), said.append):
        _wait_for(lambda: len(refused) >= 3)
        url = f"{tmp_path}/{LEASE}"
        line = f"{url} is not renewed while its disk refuses it, and the run goes on: {full}"
        assert said == [line]
        room.set()
        assert renewed.wait(60)
        _wait_for(lambda: len(said) == 2)
        assert said == [line, f"{url} is renewed again"]
    assert not [record for record in caplog.records if record.name == "bisieve.retries"]


def test_a_full_disk_takes_no_lease_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, tries = DiskError(f"room for {tmp_path}", "No space left on device", "free space there"), []

    def take(found: Any, content: bytes) -> None:
        tries.append(found)
        write(str(tmp_path), replace(this_driver(), pid=2**22 + 1))  # even where the lease has changed
        raise full

    monkeypatch.setattr(lease, "replace_pointer", take)
    with pytest.raises(DiskError) as caught, leased(str(tmp_path), print):
        pytest.fail("a lease without a file")
    assert (caught.value, len(tries)) == (full, 1)


def test_a_lease_that_another_driver_was_quicker_to_take_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    replace_pointer, dead = lease.replace_pointer, replace(this_driver(), pid=2**22 + 1)
    rivals = iter([True])

    def take(found: Any, content: bytes) -> None:
        if next(rivals, False):
            write(str(tmp_path), dead)
        replace_pointer(found, content)

    monkeypatch.setattr(lease, "replace_pointer", take)
    with leased(str(tmp_path), print):
        assert holder(str(tmp_path)).pid == os.getpid()
    (line,) = (record.getMessage() for record in caplog.records if record.name == "bisieve.retries")
    assert line.startswith(f"lease {tmp_path}/{LEASE}: try 2 now, after StorageError: expected ")
