"""Rollouts as lines of JSONL, in both layouts."""

from collections.abc import Iterator

from bench.corpora.batch import Rollout
from bench.corpora.sources import Source

# The real records repeat this before every question.
_INSTRUCTION = (
    rb"You are an advanced multimodal assistant. Look at every part of the image before you reason, name "
    rb"what you see, and do not guess at what is hidden. Units are part of an answer; so is its sign. Your "
    rb"task is to answer the question below. Give step by step reasoning before you answer, and when you're "
    rb"ready to answer, please use the format \"Final answer: ..\"\n\nQuestion:\n\n<image>\n"
)


def rollout_line(rollout: Rollout) -> bytes:
    """The record of the rollouts layout; ``dataset`` is what all records have in common."""
    steps = b', {"step": "'.join(map(bytes.__add__, rollout.steps, rollout.ends))
    question = _INSTRUCTION + rollout.question if rollout.question else b" "
    return b"".join(
        (
            b'{"image": ', rollout.image,
            b', "question": "', question,
            b'", "question_orig": "', rollout.question,
            b'", "answer": "', rollout.answer,
            b'", "response": "', rb"\n\n".join(rollout.steps),
            b'", "steps_with_score": [{"step": "', steps,
            b'], "num_mc_sequences": 16, "dataset": "VisualPRM400K"}\n',
        )
    )  # fmt: skip


def step_lines(source: Source, rollout: Rollout) -> Iterator[bytes]:
    """The records of the steps layout, in order; the first one has the image, the question and the source."""
    name = source.name.encode()
    for place, (text, end) in enumerate(zip(rollout.steps, rollout.ends, strict=True)):
        line = b'{"rollout_id": "%s-%d", "step_index": %d, "step": "%s%s' % (
            name, rollout.number, place, text, end
        )  # fmt: skip
        if place:
            yield line + b"\n"
        else:
            yield b'%s, "image": %s, "question": "%s", "source": "%s"}\n' % (
                line[:-1], rollout.image, rollout.question or b" ", name
            )  # fmt: skip
