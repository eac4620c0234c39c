"""Make the study's two base models: one that has judged statements, and one that only reads.

``judging`` is the demo's backbone, which judges statements by a word after each, taught by 120 more steps to
do so in the format of the training: at each marker it says whether this statement alone agrees with the
picture and the statements before it. With the demo's backbone itself learning begins by a sudden rise, whose
moment depends on the seed. ``reading`` is a smaller model that has learned to read digits and to predict the
text of solutions. Neither has seen a Monte-Carlo score, nor that a step after a wrong one is wrong, too: that
is left to the training.

    OMP_NUM_THREADS=2 PYTHONPATH=tests:infra/demo python -m bench.study.bases
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from backbone_lessons import NOTHING, RIGHT, WRONG, Lesson, any_lessons, varied_digits
from backbone_model import END, PICTURE, TURN, build_model, image_processor, pixels_of, train_tokenizer
from make_backbone import TEXT_WEIGHT, Teacher, keep_freed_memory
from torch.nn.functional import cross_entropy
from transformers import AutoModelForImageTextToText, AutoTokenizer

from bisieve.records.prompt import MARKER, STEP_SEPARATOR
from ray_train.model.backbone import add_marker

HERE = Path(__file__).parent
DEMO = HERE.parents[1] / "fixtures/backbone"
VISION_WIDTH, WIDTH, LAYERS = 64, 96, 4  # of the base that reads
HEAD = f"{TURN}user\n{END}\n{TURN}assistant\n{PICTURE}\n"


class MarkerTeacher(Teacher):
    """A teacher whose lessons are in the format of the training, with a verdict at each marker."""

    def answers(self, batch: list[Lesson]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits, [learned tokens, vocabulary], and the target tokens, [learned tokens]."""
        ids, targets = zip(*(self._tokens(lesson) for lesson in batch), strict=True)
        length, pad = max(map(len, ids)), self.tokenizer.pad_token_id
        inputs = torch.tensor([[pad] * (length - len(row)) + row for row in ids])
        wanted = torch.tensor([[NOTHING] * (length - len(row)) + row for row in targets])
        hidden = self.model.model(
            input_ids=inputs, attention_mask=(inputs != pad).long(),
            pixel_values=pixels_of(np.stack([lesson.picture for lesson in batch])),
        ).last_hidden_state  # fmt: skip
        return self.model.lm_head(hidden[wanted != NOTHING]), wanted[wanted != NOTHING]

    def _tokens(self, lesson: Lesson) -> tuple[list[int], list[int]]:
        """Return the tokens of a lesson, and what each has to predict: a verdict, or the next token."""
        ids: list[int] = []
        targets: list[int] = []
        for text, learn in marked(lesson):
            tokens = self.tokenizer(text)["input_ids"]
            if learn and ids:  # the token before predicts the first one
                targets[-1] = targets[-1] if targets[-1] in self.verdict_ids else tokens[0]
            ids += tokens
            targets += [*tokens[1:], NOTHING] if learn else [NOTHING] * len(tokens)
            if text == MARKER:
                targets[-1] = NOTHING
            elif text in (RIGHT, WRONG):  # not part of the text: the marker before it predicts it
                del ids[-len(tokens) :], targets[-len(tokens) :]
                targets[-1] = tokens[0]
        return ids, targets

    def text_loss(self, batch: int) -> torch.Tensor:
        """Return the loss on the statements' text alone, plus that of sight, for a new batch."""
        logits, targets = self.answers(any_lessons(self.digits, batch, self.rng))
        losses = cross_entropy(logits, targets, reduction="none")
        verdict = torch.isin(targets, torch.tensor(self.verdict_ids))
        return TEXT_WEIGHT * losses[~verdict].mean() + self.sight_loss(batch)


def marked(lesson: Lesson) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a lesson in the format of the training: text, and whether it is learned.

    The marker follows every statement, and a verdict, which is no part of the text, follows the marker.
    """
    (prompt, _), *parts = lesson.parts
    question = prompt[prompt.index("Question: ") :].rstrip("\n")
    yield f"{HEAD}{question}\nProcess: ", False
    separator = ""
    for number, (text, _) in enumerate(parts):
        if text in (RIGHT, WRONG):
            yield text, True
        elif text.strip():
            if separator:
                yield separator, False
            yield text.rstrip("\n"), True
            yield MARKER, False
            separator = STEP_SEPARATOR
        elif number == len(parts) - 1:
            yield END, False


def make_reading(seed: int, sight_steps: int, text_steps: int) -> tuple[Any, Any]:
    """Return a model that reads digits and predicts the text of solutions, and its tokenizer."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    digits = varied_digits(rng)
    tokenizer = train_tokenizer(lesson.text for lesson in any_lessons(digits, 2000, rng))
    tokenizer.add_special_tokens({"extra_special_tokens": [MARKER]}, replace_extra_special_tokens=False)
    model = build_model(tokenizer, VISION_WIDTH, WIDTH, LAYERS)
    teacher = MarkerTeacher(model, tokenizer, digits, rng)
    sight = [weight for name, weight in model.named_parameters() if "language_model" not in name]
    teacher.teach(teacher.sight_loss, [*sight, model.get_input_embeddings().weight], sight_steps, 64)
    teacher.teach(teacher.text_loss, list(model.parameters()), text_steps, 32)
    return model, tokenizer


def make_judging(seed: int, steps: int) -> tuple[Any, Any]:
    """Return the demo's backbone, taught to judge at the marker, and its tokenizer, which knows it."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed + 1)
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    model = AutoModelForImageTextToText.from_pretrained(DEMO)
    add_marker(model, tokenizer)
    teacher = MarkerTeacher(model, tokenizer, varied_digits(rng), rng)
    taught = [weight for name, weight in model.named_parameters() if "language_model" in name]
    teacher.teach(teacher.verdict_loss, taught, steps, 24, peak=5e-4)
    return model, tokenizer


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a base as a folder that `bisieve train --backbone` reads."""
    for part in (model, tokenizer, image_processor()):
        part.save_pretrained(folder)


def main() -> None:
    """Parse the options, train the bases and save them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=HERE / "bases")
    parser.add_argument("--sight-steps", type=int, default=600)
    parser.add_argument("--text-steps", type=int, default=150)
    parser.add_argument("--verdict-steps", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    keep_freed_memory()
    save(*make_judging(args.seed, args.verdict_steps), args.output / "judging")
    save(*make_reading(args.seed, args.sight_steps, args.text_steps), args.output / "reading")


if __name__ == "__main__":
    main()
