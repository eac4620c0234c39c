"""Ensure that one driver at a time writes to an output folder.

OUTPUT/driver.json      the lease: names the driver, is renewed every 10 seconds, removed when the driver ends

A retry by Airflow or Kubernetes may find the lease of a driver that was killed. On the same machine it checks
that the process is gone; on another machine it watches for 25 seconds whether the file still changes. Clocks
of two machines are never compared. The file is replaced by compare-and-swap (`bisieve.io.conditional`).
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

from bisieve.cli.process import sigterm_as_interrupt
from bisieve.errors import DiskError, PreemptedError, StorageError, TrainingError
from bisieve.io import storage
from bisieve.io.conditional import Pointer, read_pointer, replace_pointer
from bisieve.io.retry import say_retry
from bisieve.io.urls import join
from ray_train.registry.files import LEASE

RENEWED_EVERY = 10.0  # seconds
TAKEN_OVER = signal.SIGUSR1  # not SIGINT: Ctrl-C makes a run save, which this driver must no longer do
WATCHED_FOR = 2.5  # in units of RENEWED_EVERY: one renewal may be late on a slow store

Say = Callable[[str], None]


@dataclass(frozen=True)
class Driver:
    """A driver process, as its lease describes it."""

    token: str  # random, unique to the process
    host: str
    pid: int
    machine: str  # scope in which the pid is unique: host, boot and container; empty: unknown
    started: str  # start of the process, in ticks since that machine's boot; empty: unknown
    renewed: int = 0  # number of renewals, so that each one changes the file

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


_UNKNOWN = Driver("", "a machine unknown", 0, "", "")


@contextmanager
def leased(output: str, say: Say) -> Iterator[None]:
    """Hold the lease of ``output`` while the block runs; release it however the block ends.

    A thread renews the lease. SIGTERM ends the block as Ctrl-C would, unless the block sets a handler of its
    own. If another driver takes the lease over, the block is interrupted.

    Args:
        output: URL of the output folder.
        say: Prints a line for the user.

    Raises:
        TrainingError: Another driver holds the lease, or took it over during the block; the latter replaces
            any exception of the block.
        PreemptedError: SIGTERM ended the block.
    """
    url, driver = join(output, LEASE), this_driver()
    _take(output, driver, say)
    terminated: list[int] = []
    with sigterm_as_interrupt(terminated), _interrupted_by(TAKEN_OVER):
        renewal = _Renewal(url, driver, say)
        try:
            yield
        except BaseException as error:
            if renewal.rival is None:
                # Ray sets a handler of SIGTERM, too, which raises SystemExit.
                if terminated or (isinstance(error, SystemExit) and error.code == signal.SIGTERM):
                    raise PreemptedError(
                        "the training to begin", "SIGTERM", "run the same command again"
                    ) from None
                raise
        finally:
            renewal.end()
            with suppress(StorageError):  # the next driver will see that the lease is no longer renewed
                _give_back(url, driver)
    if renewal.rival is not None:
        raise TrainingError(
            f"this driver to be the only one of {output}",
            f"that {renewal.rival} took it over when {LEASE} there had not been renewed for long",
            "see which of the two is to go on; nothing that was saved is lost",
        )


def _take(output: str, driver: Driver, say: Say) -> None:
    """Write ``driver`` into the lease; raise `TrainingError` if another living driver holds it.

    A holder that is not known to be dead is watched for 25 seconds.
    """
    url = join(output, LEASE)
    tries = 1
    while True:
        found = read_pointer(url)
        holder = _holder(found)
        if holder is not None and not is_dead(holder):
            seconds = WATCHED_FOR * RENEWED_EVERY
            say(f"{url} is held by {holder}: watching up to {seconds:.0f} s whether it is still alive")
            if (now := _watched(found, seconds)).data not in (None, found.data):
                raise TrainingError(
                    f"no other driver at {output}",
                    f"{_holder(now)}, which is still running",
                    "wait for its end, or end it, then run the same command again",
                )
            found = now
        try:
            return replace_pointer(found, _content(driver))
        except StorageError as error:
            is_final = isinstance(error, DiskError)
            if is_final or read_pointer(url).token == found.token:  # else another driver was quicker
                raise
            tries += 1
            say_retry(f"lease {url}", tries, error)


class _Renewal:
    """A thread that renews a lease.

    If another driver takes the lease over, it sets ``rival`` and interrupts the thread that made it, provided
    that this is the main thread.
    """

    def __init__(self, url: str, driver: Driver, say: Say) -> None:
        self.rival: Driver | None = None
        self._url, self._driver, self._say = url, driver, say
        here = threading.current_thread()
        self._interrupted = here.ident if here is threading.main_thread() else None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop renewing, and wait for the thread."""
        self._ended.set()
        self._thread.join()

    def _renew(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # it is for the main thread alone
        mine, refused, on_full_disk = self._driver, 0, False
        while self.rival is None and not self._ended.wait(RENEWED_EVERY):
            mine = replace(mine, renewed=mine.renewed + 1)
            try:
                self.rival = _renewed(self._url, mine)
            except DiskError as error:  # no reason to end the run: no other driver can write the lease either
                if not on_full_disk:
                    self._say(
                        f"{self._url} is not renewed while its disk refuses it, and the run goes on: {error}"
                    )
                on_full_disk = True
                continue
            except StorageError as error:  # unavailable, or just replaced: the next renewal will tell
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
    """Watch the file for up to ``seconds``; return it as soon as it has changed, else as it was ``found``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(seconds / 25)
        if (now := read_pointer(found.url)).token != found.token:
            return now
    return found


def _renewed(url: str, driver: Driver) -> Driver | None:
    """Renew the lease of ``driver``; return the driver that has taken it over, None if none has."""
    found = read_pointer(url)
    holder = _holder(found) or _UNKNOWN  # no file: it was taken over and released
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
    """Return the driver that the lease names; None if there is no lease."""
    if found.data is None:
        return None
    try:
        return msgspec.json.decode(found.data, type=Driver)
    except msgspec.DecodeError:  # truncated, or written by another version of bisieve
        return _UNKNOWN


@contextmanager
def _interrupted_by(number: int) -> Iterator[None]:
    """Let a signal end the block at once with a `KeyboardInterrupt`, if this is the main thread."""
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
    """Return a `Driver` for this process, with a new token."""
    return Driver(uuid.uuid4().hex, socket.gethostname(), os.getpid(), _machine(), _started(os.getpid()))


def is_dead(driver: Driver) -> bool:
    """Return whether ``driver`` is known to be dead: a process of this machine that has ended."""
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
    """Return a name of this machine, its boot and its container; empty without ``/proc``."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    return ""


def _started(pid: int) -> str:
    """Return when a process started, in ticks since the boot; "ended" for a zombie, empty if unknown."""
    # Not psutil: it gives seconds since 1970, which shift when the clock is set.
    with suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "ended" if state == "Z" else fields[18]
    return ""
