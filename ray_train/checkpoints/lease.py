"""Who drives the run at an output: one driver at a time, since two would remove each other's checkpoints.

OUTPUT/driver.json      the driver, written anew every few seconds while it lives, removed at its end

One that is killed leaves it behind.  On its own machine the next one sees that the process is gone; on
another one it watches whether the file still changes.  Clocks of two machines are never compared.
"""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace

from bisieve import storage
from bisieve.errors import DiskError, PreemptedError, StorageError, TrainingError
from bisieve.patience import say_retry
from bisieve.pointer import Pointer, read_pointer, replace_pointer
from bisieve.sigterm import sigterm_as_interrupt
from ray_train.checkpoints.driver import Driver, is_dead, this_driver

LEASE = "driver.json"
RENEWED_EVERY = 10.0  # seconds
TAKEN_OVER = signal.SIGUSR1  # not SIGINT: at Ctrl-C a run saves, which this one must not do any more
WATCHED_FOR = 2.5  # times that: a store may be slow once
_UNKNOWN = Driver("", "a machine unknown", 0, "", "")


@contextmanager
def leased(output: str, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the lease of ``output`` while the block runs, and gives it back however the block ends.

    `TrainingError` where another driver has it, and, in place of what the block raises, where another one has
    taken it over.  SIGTERM, if nothing else is set for it, ends the block with a `PreemptedError`.
    """
    url, driver = storage.join(output, LEASE), this_driver()
    _take(output, driver, say)
    ended = threading.Event()
    rival: list[Driver] = []

    def renew() -> None:
        mine, refused, on_full_disk = driver, 0, False
        while not rival and not ended.wait(RENEWED_EVERY):
            mine = replace(mine, renewed=mine.renewed + 1)
            try:
                other = _renewed(url, mine)
                refused = 0
                if on_full_disk:
                    say(f"{url} is renewed again")
                    on_full_disk = False
            except DiskError as error:  # no reason to end a run; nobody else can take the lease over there
                if not on_full_disk:
                    say(f"{url} is not renewed while its disk refuses it, and the run goes on: {error}")
                    on_full_disk = True
                continue
            except StorageError as error:  # out of sorts, or just replaced: the next time will show
                refused += 1
                say_retry(f"lease {url}", refused + 1, error, RENEWED_EVERY)
                continue
            if other:
                rival.append(other)
                if interrupted is not None and not ended.is_set():
                    signal.pthread_kill(interrupted, TAKEN_OVER)

    terminated: list[int] = []
    with sigterm_as_interrupt(terminated), _interrupted_by(TAKEN_OVER):
        here = threading.current_thread()
        interrupted = here.ident if here is threading.main_thread() else None
        thread = threading.Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        except BaseException as error:
            if not rival:
                # Ray, too, sets a handler, and makes an exit of it.
                if terminated or (isinstance(error, SystemExit) and error.code == signal.SIGTERM):
                    raise PreemptedError(
                        "the training to begin", "SIGTERM", "run the same command again"
                    ) from None
                raise
        finally:
            ended.set()
            thread.join()
            with suppress(StorageError):  # who comes next will see that it is not renewed
                _give_back(url, driver)
    if rival:
        raise TrainingError(
            f"this driver to be the only one of {output}",
            f"that {rival[0]} took it over when {LEASE} there had not been renewed for long",
            "see which of the two is to go on; nothing that was saved is lost",
        )


def _take(output: str, driver: Driver, say: Callable[[str], None]) -> None:
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


def _watched(found: Pointer, seconds: float) -> Pointer:
    """The file as soon as it is not what it was, or after so many seconds as it is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(seconds / 25)
        if (now := read_pointer(found.url)).token != found.token:
            return now
    return found


def _renewed(url: str, driver: Driver) -> Driver | None:
    """Says that ``driver`` lives; returns who else has the lease, None as long as nobody is known to."""
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
    return json.dumps(asdict(driver), indent=2).encode()


def _holder(found: Pointer) -> Driver | None:
    """Whose lease it is; None where there is none."""
    if found.data is None:
        return None
    try:
        return Driver(**json.loads(found.data))
    except (ValueError, TypeError):  # cut off, or of another version
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
