"""Read the curves of a run from TensorBoard's event files, on any store; TensorBoard is not needed.

A run that was resumed has an event file for each of its starts.  Steps that a later start did again replace
those of the earlier one, as TensorBoard shows them.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bisieve.errors import TrainingError
from bisieve.io import storage
from bisieve.io.urls import basename, join

_HEAD = 12  # bytes before an event: its length (8) and the checksum of that (4)
_TAIL = 4  # and after it: its checksum


@dataclass(frozen=True)
class Start:
    """One start of a run."""

    step: int  # steps that were done before
    seconds: float  # when its first event was written, since the epoch


@dataclass(frozen=True)
class Curves:
    """The metrics of a run."""

    values: dict[str, dict[int, float]]  # name -> step -> value, by step
    seconds: dict[int, float]  # step -> when it was done, since the epoch
    starts: list[Start]  # in order of time


def read_curves(output: str, run: str) -> Curves:
    """Read the curves of the run named ``run`` below ``output``; they are empty if there are none.

    Raises:
        TrainingError: An event file is damaged.
        StorageError: A file cannot be read.
        ModuleNotFoundError: tensorboardX is missing.
    """
    from tensorboardX.proto.event_pb2 import Event

    found = [
        file for file in storage.stored_files(join(output, "tensorboard", run)) if "tfevents" in file.url
    ]
    histories = [(file.url, [*_events(file.url, Event)]) for file in found]
    curves = Curves({}, {}, [])
    for url, events in sorted((each for each in histories if each[1]), key=lambda each: each[1][0].wall_time):
        start = _first_step(url, events)
        curves.starts.append(Start(start, events[0].wall_time))
        for values in (*curves.values.values(), curves.seconds):
            for step in [step for step in values if step > start]:
                del values[step]
        for event in events:
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    curves.values.setdefault(value.tag, {})[event.step] = value.simple_value
                    curves.seconds[event.step] = event.wall_time
    return curves


def _first_step(url: str, events: list[Any]) -> int:
    """Return how many steps were done before a start: the tracker's name of the file says it."""
    name = basename(url)
    done = name.rpartition(".from-")[2]
    return int(done) if ".from-" in name and done.isdigit() else max(0, events[0].step - 1)


def _events(url: str, kind: Any) -> Iterator[Any]:
    """Yield the events of a file; an event that is written just now, at its end, is left out."""
    from google.protobuf.message import DecodeError

    data, place = storage.read_bytes(url), 0
    while place + _HEAD <= len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        end = place + _HEAD + length
        if end + _TAIL > len(data):
            return
        try:
            yield kind.FromString(data[place + _HEAD : end])
        except DecodeError as error:
            raise TrainingError(f"an event file of TensorBoard at {url}", str(error), "remove it") from error
        place = end + _TAIL
