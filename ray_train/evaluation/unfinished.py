"""Rewards of a scoring that is not finished, so that the same command continues where it was killed.

    OUTPUT/unfinished.json         the model, the file and the options that the rewards belong to
    OUTPUT/unfinished-00000.jsonl  rewards of some solutions, by line of the file
    …

Parts are written from time to time, and when the scoring fails or is stopped; all are removed at its end.
"""

import math
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from bisieve.errors import TrainingError
from bisieve.io import storage
from bisieve.io.urls import join

EVERY = 30.0  # seconds of scoring that a kill can lose
IDENTITY, PART = "unfinished.json", "unfinished-"

Row = tuple[int, list[float]]  # line and rewards


class Unfinished:
    """The rewards of the solutions that have been scored so far.

    Args:
        output: URL of the folder of the results.
        identity: What the rewards depend on, by name; values that JSON can hold.

    Raises:
        TrainingError: The folder has unfinished rewards of another model, file or option.
        StorageError: It cannot be read.
    """

    def __init__(self, output: str, identity: Mapping[str, Any]) -> None:
        self._output = output
        self._identity = dict(identity)
        self._new: list[Row] = []
        self._saved = time.monotonic()
        self._parts: list[str] = []
        self.rewards: dict[int, list[float]] = {}  # by line
        if storage.exists(join(output, IDENTITY)):
            self._read()

    def _read(self) -> None:
        kept = msgspec.json.decode(storage.read_bytes(join(self._output, IDENTITY)))
        for name, value in self._identity.items():
            if kept.get(name) != value:
                expected, found = f"{name} {value}", f"{name} {kept.get(name)}"
                if name == "solutions":  # digests tell a reader nothing
                    expected, found = "these solutions", "those of others"
                raise TrainingError(
                    f"unfinished scores of {expected} in {self._output}, to continue them",
                    found,
                    f"give another --output, or delete {IDENTITY} there to begin again",
                )
        self._parts = sorted(name for name in storage.file_names(self._output) if name.startswith(PART))
        decoder = msgspec.json.Decoder(Row)
        for name in self._parts:
            self.rewards |= dict(decoder.decode_lines(storage.read_bytes(join(self._output, name))))

    def add(self, line: int, rewards: list[float]) -> None:
        """Add the rewards of one solution; write a part if the last one is `EVERY` seconds old.

        Rewards that are not numbers, of a broken model, are not kept.
        """
        self.rewards[line] = rewards
        if all(map(math.isfinite, rewards)):
            self._new.append((line, rewards))
        if time.monotonic() - self._saved >= EVERY:
            self.save()

    def save(self) -> None:
        """Write the rewards that are in no part yet."""
        if self._new:
            if not self._parts:
                # Parts of a scoring that the user has given up by deleting its identity.
                storage.remove([join(self._output, name) for name in self._left_over()])
                identity = msgspec.json.encode(self._identity)
                storage.write_bytes(join(self._output, IDENTITY), identity)
            name = f"{PART}{len(self._parts):05d}.jsonl"
            storage.write_bytes(join(self._output, name), msgspec.json.Encoder().encode_lines(self._new))
            self._parts.append(name)
            self._new = []
        self._saved = time.monotonic()

    def _left_over(self) -> list[str]:
        there = storage.exists(self._output)
        return [name for name in storage.file_names(self._output) if name.startswith(PART)] if there else []

    def remove(self) -> None:
        """Remove what was written, after the results have been."""
        if self._parts:
            storage.remove([join(self._output, name) for name in (IDENTITY, *self._parts)])
