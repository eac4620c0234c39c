"""Steps that spoil no rollout, by column, until there are enough of them for an Arrow batch."""

from dataclasses import dataclass, field
from itertools import chain
from types import NoneType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bisieve import records, schema
from bisieve.coded import repeated
from bisieve.lines import Block
from bisieve.reading import Reading
from bisieve.scan.blocks import Ints, Places, all_say_something, hold_marker
from bisieve.scan.prompts import PromptIds, prompt_ids
from bisieve.scan.scored import small_counts

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass
class SoundSteps:
    """Steps of one shard; some columns lie block by block."""

    shard: str
    reading: Reading
    rollout_id: list[str] = field(default_factory=list)
    step_index: list[pa.Array] = field(default_factory=list)
    source: list[str | None] = field(default_factory=list)  # as it stands there, where it is a field
    heads: list[int] = field(default_factory=list)  # the steps that tell of their rollout's prompt
    prompts: list[PromptIds] = field(default_factory=list)  # of the heads
    score: list[Floats] = field(default_factory=list)
    mc_correct: list[pa.Array] = field(default_factory=list)
    mc_total: list[pa.Array] = field(default_factory=list)
    offset: list[Ints] = field(default_factory=list)
    length: list[Ints] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rollout_id)

    def take_in(self, found: list[Any], block: Block, places: Places) -> bool:
        """Takes in the steps ``found`` in a block, or none where one of them may spoil its rollout: False."""
        ids, texts = [step.rollout_id for step in found], [step.step for step in found]
        score = np.array([step.score for step in found], np.float64)  # NaN where there is none
        heads = [n for n, step in enumerate(found) if step.image or step.question or step.question_orig]
        questions = [found[n].question_orig or found[n].question or "" for n in heads]
        if "" in ids or not ((score >= 0.0) & (score <= 1.0)).all() or not all_say_something(texts):
            return False
        if hold_marker(texts) or hold_marker(questions):
            return False
        begin = len(self)
        self.heads += [begin + number for number in heads]
        self.prompts += _prompts(found, heads)
        self.rollout_id += ids if {str}.issuperset(map(type, ids)) else map(str, ids)
        self.step_index.append(small_counts([step.step_index for step in found]))
        if self.reading.source_field is not None:
            self.source += [step.source for step in found]
        self.score.append(score)
        correct, total = _counts(found)
        self.mc_correct.append(correct)
        self.mc_total.append(total)
        self.offset.append(places.start + block.offset)
        self.length.append(places.end - places.start)
        return True

    def batch(self) -> pa.RecordBatch:
        """All that was taken in, as `schema.STEPS`; at least one block."""
        images, questions, both = zip(*self.prompts, strict=True) if self.prompts else ((), (), ())
        correct, total = pa.concat_arrays(self.mc_correct), pa.concat_arrays(self.mc_total)
        known = pc.fill_null(pc.less_equal(correct, total), False)
        columns = {
            "rollout_id": pa.array(self.rollout_id, pa.string()),
            "step_index": pa.concat_arrays(self.step_index),
            "source": self._sources(),
            "image_id": self._of_heads(pa.array(images, pa.int64())),
            "prompt_id": self._of_heads(pa.array(questions, pa.int64())),
            "question_id": self._of_heads(pa.array(both, pa.string())),
            "score": pa.array(np.concatenate(self.score)),
            "mc_correct": pc.if_else(known, correct, None),
            "mc_total": pc.if_else(known, total, None),
            "shard": repeated(self.shard, len(self)),
            "offset": pa.array(np.concatenate(self.offset)),
            "length": pa.array(np.concatenate(self.length)),
            "reason": pa.nulls(len(self), pa.string()),
        }
        return pa.record_batch([columns[column.name] for column in schema.STEPS], schema=schema.STEPS)

    def _sources(self) -> pa.Array:
        if self.reading.source_field is None:
            return repeated(self.reading.source_of(self.shard), len(self))
        cleaned = {name: (name or "").strip() or None for name in set(self.source)}
        if len(cleaned) == 1 and (only := cleaned[self.source[0]]):
            return repeated(only, len(self))
        return pa.array([cleaned[name] for name in self.source], pa.string()).dictionary_encode()

    def _of_heads(self, values: pa.Array) -> pa.Array:
        """``values``, one a head, at the heads, and nothing at all other steps."""
        place, others = np.zeros(len(self), np.int64), np.ones(len(self), np.bool_)
        place[self.heads], others[self.heads] = np.arange(len(values)), False
        return values.take(pa.array(place, mask=others))


def _prompts(found: list[Any], heads: list[int]) -> list[PromptIds]:
    ids: list[PromptIds] = []
    before: Any = None
    for number in heads:
        step = found[number]
        prompt = step.image, step.question_orig, step.question
        if prompt != before:  # the rollouts of a prompt often stand together
            before, named = prompt, prompt_ids(*prompt)
        ids.append(named)
    return ids


def _counts(found: list[Any]) -> tuple[pa.Array, pa.Array]:
    """K and N of every step, int32; null where one is none, while the other may stand."""
    columns = [step.num_mc_correct for step in found], [step.num_mc_total for step in found]
    if not {int, NoneType}.issuperset(map(type, chain(*columns))):
        pairs = [records.step_counts(step) or (None, None) for step in found]
        columns = [correct for correct, _ in pairs], [total for _, total in pairs]
    return small_counts(columns[0]), small_counts(columns[1])
