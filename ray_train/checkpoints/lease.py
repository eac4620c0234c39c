"""Ensure that one driver at a time writes to an output folder.

OUTPUT/driver.json      the driver, written again every few seconds while it lives, removed at its end

A retry of Airflow or Kubernetes may find it there though its driver was killed.  On the same machine it sees
that the process is gone; on another one it watches whether the file still changes.  Clocks of two machines
are never compared.
"""

import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from bisieve.cli.sigterm import sigterm_as_interrupt
from bisieve.errors import DiskError, PreemptedError, StorageError, TrainingError
from bisieve.io import storage
from bisieve.io.conditional import Pointer, read_pointer, replace_pointer
from bisieve.io.retry import say_retry

LEASE = "driver.json"
RENEWED_EVERY = 10.0  # seconds
TAKEN_OVER = signal.SIGUSR1  # not SIGINT: at Ctrl-C a run saves, which this one must not do any more
WATCHED_FOR = 2.5  # times that: a store may be slow once

Say = Callable[[str], None]


@dataclass(frozen=True)
class Driver:
    """The process of one run of the command."""

    token: str  # tells it from all others
    host: str
    pid: int
    machine: str  # in which the pid counts: two machines, boots or containers differ; empty: unknown
    started: str  # when the process started, by that machine's own count
    renewed: int = 0  # times that it has said that it lives

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


_UNKNOWN = Driver("", "a machine unknown", 0, "", "")


@contextmanager
def leased(output: str, say: Say) -> Iterator[None]:
    """Hold the lease of ``output`` while the block runs, and give it back however the block ends.

    SIGTERM, if nothing else is set for it, ends the block.

    Raises:
        TrainingError: another driver has the lease, or has taken it over, whatever the block raised.
        PreemptedError: in place of what SIGTERM raised in the block.
    """
    url, driver = storage.join(output, LEASE), this_driver()
    _take(output, driver, say)
    terminated: list[int] = []
    with sigterm_as_interrupt(terminated), _interrupted_by(TAKEN_OVER):
        renewal = _Renewal(url, driver, say)
        try:
            yield
        except BaseException as error:
            if renewal.rival is None:
                # Ray, too, sets a handler, and makes an exit of it.
                if terminated or (isinstance(error, SystemExit) and error.code == signal.SIGTERM):
                    raise PreemptedError(
                        "the training to begin", "SIGTERM", "run the same command again"
                    ) from None
                raise
        finally:
            renewal.end()
            with suppress(StorageError):  # the next driver will see that it is not renewed
                _give_back(url, driver)
    if renewal.rival is not None:
        raise TrainingError(
            f"this driver to be the only one of {output}",
            f"that {renewal.rival} took it over when {LEASE} there had not been renewed for long",
            "see which of the two is to go on; nothing that was saved is lost",
        )


def _take(output: str, driver: Driver, say: Say) -> None:
    """Write ``driver`` into the lease once nobody else who lives has it; else raise `TrainingError`."""
    url = storage.join(output, LEASE)
    tries = 1
    while True:
        found = read_pointer(url)
        holder = _holder(found)
        if holder is not None and not is_dead(holder):
            seconds = WATCHED_FOR * RENEWED_EVERY
            say(f"{url} is of {holder}: up to {seconds:.0f} s to see whether it still lives")
            if (now := _watched(found, seconds)).data not in (None, found.data):
                raise TrainingError(
                    f"no other driver at {output}",
                    f"{_holder(now)}, which is at work there",
                    "wait for its end, or end it, then run the same command again",
                )
            found = now
        try:
            return replace_pointer(found, _content(driver))
        except StorageError as error:
            is_final = isinstance(error, DiskError)
            if is_final or read_pointer(url).token == found.token:  # else another one was quicker
                raise
            tries += 1
            say_retry(f"lease {url}", tries, error)


class _Renewal:
    """A thread that renews a lease; it interrupts the thread that made it when another driver has it."""

    def __init__(self, url: str, driver: Driver, say: Say) -> None:
        self.rival: Driver | None = None
        self._url, self._driver, self._say = url, driver, say
        here = threading.current_thread()
        self._interrupted = here.ident if here is threading.main_thread() else None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Renew no more."""
        self._ended.set()
        self._thread.join()

    def _renew(self) -> None:
        mine, refused, on_full_disk = self._driver, 0, False
        while self.rival is None and not self._ended.wait(RENEWED_EVERY):
            mine = replace(mine, renewed=mine.renewed + 1)
            try:
                self.rival = _renewed(self._url, mine)
            except DiskError as error:  # no reason to end a run: nobody else can take the lease there
                if not on_full_disk:
                    self._say(
                        f"{self._url} is not renewed while its disk refuses it, and the run goes on: {error}"
                    )
                on_full_disk = True
                continue
            except StorageError as error:  # out of order, or just replaced: the next time will show
                refused += 1
                say_retry(f"lease {self._url}", refused + 1, error, RENEWED_EVERY)
                continue
            refused = 0
            if on_full_disk:
                self._say(f"{self._url} is renewed again")
                on_full_disk = False
        if self.rival is not None and self._interrupted is not None and not self._ended.is_set():
            signal.pthread_kill(self._interrupted, TAKEN_OVER)


def _watched(found: Pointer, seconds: float) -> Pointer:
    """Return the file as soon as it is not what it was, or after so many seconds as it is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(seconds / 25)
        if (now := read_pointer(found.url)).token != found.token:
            return now
    return found


def _renewed(url: str, driver: Driver) -> Driver | None:
    """Say that ``driver`` lives; return who else has the lease, None as long as nobody is known to."""
    found = read_pointer(url)
    holder = _holder(found) or _UNKNOWN  # gone: it was taken over, and given back
    if holder.token != driver.token:
        return holder
    replace_pointer(found, _content(driver))
    return None


def _give_back(url: str, driver: Driver) -> None:
    holder = _holder(read_pointer(url))
    if holder is not None and holder.token == driver.token:
        storage.remove([url])


def _content(driver: Driver) -> bytes:
    return msgspec.json.format(msgspec.json.encode(driver), indent=2)


def _holder(found: Pointer) -> Driver | None:
    """Return whose lease it is; None where there is none."""
    if found.data is None:
        return None
    try:
        return msgspec.json.decode(found.data, type=Driver)
    except msgspec.DecodeError:  # cut off, or of another version
        return _UNKNOWN


@contextmanager
def _interrupted_by(number: int) -> Iterator[None]:
    """Let a signal end the block at once, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, on_signal)
    try:
        yield
    finally:
        signal.signal(number, before)


def this_driver() -> Driver:
    """Return the driver that this process is."""
    return Driver(uuid.uuid4().hex, socket.gethostname(), os.getpid(), _machine(), _started(os.getpid()))


def is_dead(driver: Driver) -> bool:
    """Return whether ``driver`` was a process of this machine and is no more; False where not known."""
    if not driver.machine or driver.machine != _machine():
        return False
    try:
        os.kill(driver.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        pass
    started = _started(driver.pid)
    return started != "" and started != driver.started


def _machine() -> str:
    """Name this machine since its last boot, and the container; empty where there is no ``/proc``."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _started(pid: int) -> str:
    """Return when a process started, in ticks since the boot, or that it ended; empty where not shown."""
    # Not psutil: it gives seconds since 1970, which move when the clock is set.
    with suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "ended" if state == "Z" else fields[18]
    return ""
