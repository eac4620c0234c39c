"""Prepare samples ahead of the model, in data workers: decode images, tokenize, name images that fail.

    items ──threads, data_workers──▶ results, in the order of the items

`threads` are for work that waits for a store, and `data_workers` (processes) for work that needs a CPU.
Results and errors come in the order of the items, with any number of workers. So the batches of a step, and
the step at which a broken image ends the run, do not depend on the number of workers.

The work is `Preparation`. Processors do not say which image they cannot process, so `refusals_named` and
`refusal` find it by processing each image alone.
"""

import os
import pickle
import pickletools
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from multiprocessing import connection, get_context, parent_process
from typing import Any, TypeVar

import torch

from bisieve._text import one_line, pluralize
from bisieve.errors import BisieveError, ImageError, TrainingError
from bisieve.io.disk import choose_socket_folder
from ray_train.data.encode import Encoder, Sample
from ray_train.data.images import StoredImage
from ray_train.data.packing import PromptMemory, PromptReader, PromptTokens
from ray_train.model.reward import Batch

Item = TypeVar("Item")
Result = TypeVar("Result")
InOrder = Callable[[Iterable[Any]], Iterator[Any]]
Prepared = PromptTokens | Batch

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


@dataclass(frozen=True)
class Preparation:
    """Callable that decodes images and encodes samples: one prompt's for a pack, or a batch of rows."""

    encoder: Encoder
    reader: PromptReader | None  # None: rows, no packs
    skip_broken: bool = False  # leave out samples with a broken image instead of raising
    memory: PromptMemory | None = None  # prompts prepared before, in this process; with a reader only

    def __call__(self, part: tuple[bool, Sequence[Sample]]) -> tuple[bool, Prepared]:
        """Prepare the samples of a part.

        Args:
            part: whether it is the last part of its step, and its samples (of one prompt, with a reader).

        Returns:
            The same flag, and `PromptTokens` if ``reader`` is set, else a `Batch`.

        Raises:
            ImageError: an image cannot be decoded or processed, and ``skip_broken`` is off.
        """
        last, samples = part
        if self.skip_broken:
            return last, self._without_broken(samples)
        if self.memory is not None and (kept := self.memory.get(samples)) is not None:
            return last, kept
        pixels = {id(image): _pixels(image) for image in _images(samples)}
        decoded = _decoded(samples, pixels)
        names = [[f"{_name(image)} of rollout {s.name}" for image in s.images] for s in samples]
        with refusals_named(self.encoder, decoded, names):
            prepared = self._encoded(decoded)
        if self.memory is not None and isinstance(prepared, PromptTokens):
            self.memory.keep(samples, prepared)
        return last, prepared

    def _encoded(self, samples: Sequence[Sample]) -> Prepared:
        return self.reader.read(samples) if self.reader else self.encoder.encode(samples)

    def _without_broken(self, samples: Sequence[Sample]) -> Prepared:
        """Return ``samples`` prepared, without those that have a broken image, which ``broken`` names."""
        pixels: dict[int, Any] = {}
        broken: dict[str, str] = {}
        for image in _images(samples):
            try:
                pixels[id(image)] = _pixels(image)
            except ImageError as error:
                broken[_name(image)] = error.args[1]
        try:
            prepared = self._encoded(_decoded(samples, pixels))
        except BisieveError:
            raise
        except Exception:  # from the processor, which does not say which image caused it
            beside = {id(image): len(sample.images) for sample in samples for image in sample.images}
            whole = len(pixels)
            for image in _images(samples):
                if id(image) in pixels and (
                    refused := refusal(self.encoder, pixels[id(image)], beside[id(image)])
                ):
                    del pixels[id(image)]
                    broken[_name(image)] = reason(refused)
            if len(pixels) == whole:
                raise
            prepared = self._encoded(_decoded(samples, pixels))
        return replace(prepared, broken=broken)


def _images(samples: Iterable[Sample]) -> list[Any]:
    """Return each image object of ``samples`` once."""
    return list({id(image): image for sample in samples for image in sample.images}.values())


def _pixels(image: Any) -> Any:
    return image.decode() if isinstance(image, StoredImage) else image


def _name(image: Any) -> str:
    return str(getattr(image, "name", "an image"))


def _decoded(samples: Sequence[Sample], pixels: dict[int, Any]) -> list[Sample]:
    """Return ``samples`` with decoded images, without those that have an image not in ``pixels``.

    The keys of ``pixels`` are the ``id`` of an image.
    """
    return [
        replace(sample, images=[pixels[id(image)] for image in sample.images])
        for sample in samples
        if all(id(image) in pixels for image in sample.images)
    ]


@contextmanager
def refusals_named(
    encoder: Encoder, samples: Sequence[Sample], names: Sequence[Sequence[str]]
) -> Iterator[None]:
    """Turn a failure to encode ``samples`` in the block into an `ImageError` that names the image.

    Args:
        encoder: the encoder used in the block.
        samples: with decoded images.
        names: for each sample a description of each of its images, for the error.

    Raises:
        ImageError: the processor fails for an image even when that is processed alone.
        Exception: any other failure, unchanged.
    """
    try:
        yield
    except BisieveError:
        raise
    except Exception as error:  # processors raise any type, and do not say for which image
        for sample, of_sample in zip(samples, names, strict=True):
            for number, name in enumerate(of_sample):
                _try_alone(encoder, sample, number, name)
        raise error


def _try_alone(encoder: Encoder, sample: Sample, number: int, name: str) -> None:
    error = refusal(encoder, sample.images[number], len(sample.images))
    if error is not None:
        raise ImageError(
            f"an image that the backbone's processor accepts as {name}",
            reason(error),
            "replace it with one of another size or aspect ratio, then run the same command again",
        ) from error


def refusal(encoder: Encoder, image: Any, num_images: int) -> Exception | None:
    """Return the exception that the processor raises for ``image`` alone; None if it raises none.

    ``num_images`` is the number of images of its rollout, on which the options of the processor depend.
    """
    options, slot = encoder.format.options_for(num_images), encoder.format.image_slot
    try:
        encoder.processor(images=[[image]], text=[slot], return_tensors="pt", **options)
    except Exception as error:
        return error
    return None


def reason(error: Exception) -> str:
    """Return the text of ``error`` in one line of up to 200 characters, or the name of its class."""
    return one_line(error)
