"""Work ahead in order: in threads for what waits for a store, in processes for what needs a CPU.

Results come in the order of the items, as does an error, however many work on them: what a step trains on,
and where a bad image ends the run, do not depend on the number of workers.
"""

import os
import pickle
import pickletools
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from multiprocessing import connection, get_context, parent_process
from typing import Any, TypeVar

import torch

from bisieve._text import pluralize
from bisieve.errors import TrainingError

Item = TypeVar("Item")
Result = TypeVar("Result")
InOrder = Callable[[Iterable[Any]], Iterator[Any]]

BY_THE_MACHINE = -1  # the number of data workers that is chosen by the CPUs
_MOST = 8
_AHEAD = 3  # items of a data worker that are waited for, worked on or done


def chosen_workers(asked: int, cpus: int, local_ranks: int) -> int:
    """Data workers of a rank: those asked for, or its share of the CPUs without the one it trains on."""
    return asked if asked != BY_THE_MACHINE else max(0, min(_MOST, cpus // local_ranks - 1))


def in_order(
    submit: Callable[[Item], "Future[Result]"], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """The results of ``items``; that many are submitted, the one that is waited for and those behind it."""
    source, ended = iter(items), False
    waiting: deque[Future[Result]] = deque()
    while True:
        while not ended and len(waiting) < ahead:
            try:
                waiting.append(submit(next(source)))
            except StopIteration:
                ended = True
            except Exception as error:  # comes when it is its turn: first what was before it
                waiting.append(_failed(error))
                ended = True
        if not waiting:
            return
        yield waiting.popleft().result()


def _failed(error: Exception) -> "Future[Any]":
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


@contextmanager
def threads(number: int, work: Callable[[Item], Result], ahead: int) -> Iterator[InOrder]:
    """A function that does ``work`` on items in threads, ``ahead`` items at a time."""
    with _ended(ThreadPoolExecutor(number)) as pool:
        yield lambda items: in_order(lambda item: pool.submit(work, item), items, ahead)


@contextmanager
def data_workers(number: int, work: Callable[[Item], Result]) -> Iterator[InOrder]:
    """A function that does ``work``, which is pickled, on items in ``number`` processes; 0: in this thread.

    `TrainingError` when one of the processes is killed.
    """
    if number == 0:
        yield lambda items: map(work, items)
        return
    context = get_context("forkserver")
    # The server imports once what every worker needs; our main module too, which they would import each.
    context.set_forkserver_preload(["__main__", __name__, *_modules_of(work)])
    pool = ProcessPoolExecutor(number, context, _start_worker, (pickle.dumps(work),))
    with _ended(pool):
        results = partial(in_order, lambda item: pool.submit(_worked, item), ahead=_AHEAD * number)
        yield lambda items: _unpickled(results(items), number)


@contextmanager
def _ended(pool: Executor) -> Iterator[Executor]:
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _unpickled(results: Iterator[bytes], number: int) -> Iterator[Any]:
    try:
        yield from map(pickle.loads, results)
    except BrokenProcessPool as error:
        raise TrainingError(
            f"{pluralize(number, 'data worker')} at work",
            "one that was killed or could not start; memory may have run out",
            "give the machine more memory, or the run fewer --data-workers",
        ) from error


def _modules_of(work: Any) -> list[str]:
    """The modules that are imported to unpickle ``work``."""
    pickled = pickle.dumps(work, protocol=2)
    names = (str(name) for code, name, _ in pickletools.genops(pickled) if code.name == "GLOBAL")
    return sorted({name.split(" ")[0] for name in names})


_work: Callable[[Any], Any]  # in a data worker


def _start_worker(work: bytes) -> None:
    global _work
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # GPUs are the rank's
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the rank gets it, and ends us
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = pickle.loads(work)


def _end_with_parent() -> None:
    """A rank that is killed cannot end its workers."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _worked(item: Any) -> bytes:
    """The pickled result: torch's own way would be shared memory, of which many containers have 64 MB."""
    buffer = BytesIO()
    _Pickler(buffer, protocol=5).dump(_work(item))
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """Tensors as arrays: one copy, and of a view no more than is seen."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return torch.from_numpy, (value.contiguous().numpy(),)
        return NotImplemented
