"""Ordered parallel map: `threads` for work that waits for a store, `data_workers` (processes) for CPU work.

Results and errors come in the order of the items, with any number of workers. So the batches of a step, and
the step at which a broken image ends the run, do not depend on the number of workers.
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
from bisieve.io.disk import choose_socket_folder

Item = TypeVar("Item")
Result = TypeVar("Result")
InOrder = Callable[[Iterable[Any]], Iterator[Any]]

BY_THE_MACHINE = -1  # value of --data-workers that means: chosen by the number of CPUs
_MOST = 8  # data workers of a rank, unless more are asked for
_AHEAD = 3  # items per data worker that are submitted and not yet returned


def chosen_workers(asked: int, cpus: int, local_ranks: int) -> int:
    """Return the number of data workers of a rank.

    That is ``asked``, or for `BY_THE_MACHINE` the rank's share of the CPUs minus one for training, 0 to 8.

    Args:
        asked: value of ``--data-workers``.
        cpus: CPUs that this machine gives the process.
        local_ranks: ranks on this machine.
    """
    return asked if asked != BY_THE_MACHINE else max(0, min(_MOST, cpus // local_ranks - 1))


def in_order(
    submit: Callable[[Item], "Future[Result]"], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Yield the results of ``items`` in their order, with up to ``ahead`` of them submitted at a time.

    An exception, of the work or of iterating ``items``, is raised in place of its result.
    """
    source, ended = iter(items), False
    waiting: deque[Future[Result]] = deque()
    while True:
        while not ended and len(waiting) < ahead:
            try:
                waiting.append(submit(next(source)))
            except StopIteration:
                ended = True
            except Exception as error:  # raised in order, after the results of earlier items
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
    """Yield a function that maps ``work`` over items, in order, in ``number`` threads.

    Up to ``ahead`` items are submitted and not yet returned. The threads end with the block.
    """
    with _ended(ThreadPoolExecutor(number)) as pool:
        yield lambda items: in_order(lambda item: pool.submit(work, item), items, ahead)


@contextmanager
def data_workers(number: int, work: Callable[[Item], Result]) -> Iterator[InOrder]:
    """Yield a function that maps ``work`` over items, in order, in ``number`` processes.

    With 0 it works in the calling thread. ``work`` must be picklable. The processes end with the block.

    Raises:
        TrainingError: by the results, when a process was killed or could not start.
    """
    if number == 0:
        yield lambda items: map(work, items)
        return
    choose_socket_folder()
    context = get_context("forkserver")
    # The fork server imports once what every worker needs, the main module included; else each worker would.
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
            pluralize(number, "running data worker"),
            "one that was killed or could not start; memory may have run out",
            "give the machine more memory, or the run fewer --data-workers",
        ) from error


def _modules_of(work: Any) -> list[str]:
    """Return the names of the modules that unpickling ``work`` imports."""
    pickled = pickle.dumps(work, protocol=2)
    names = (str(name) for code, name, _ in pickletools.genops(pickled) if code.name == "GLOBAL")
    return sorted({name.split(" ")[0] for name in names})


_work: Callable[[Any], Any]  # set in a data worker by `_start_worker`


def _start_worker(work: bytes) -> None:
    global _work
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # only the rank uses GPUs
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the rank gets Ctrl-C too, and ends its workers
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = pickle.loads(work)


def _end_with_parent() -> None:
    """Exit when the rank's process has ended: a killed rank cannot end its workers."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _worked(item: Any) -> bytes:
    """Return the pickled result of `_work`.

    torch's own pickling would use shared memory, of which many containers have only 64 MB.
    """
    buffer = BytesIO()
    _Pickler(buffer, protocol=5).dump(_work(item))
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """A pickler that writes tensors as numpy arrays: one copy, and of a view only its own elements."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return torch.from_numpy, (value.contiguous().numpy(),)
        return NotImplemented
