"""Make the base backbone: a tiny InternVL that reads digits and judges statements about them.

It replaces a pretrained MLLM in the tests and the demo. First the vision encoder learns to give each image
token the embedding of the digit at its place, then the language model learns to judge statements about them.

    OMP_NUM_THREADS=2 python infra/demo/make_backbone.py --output tests/fixtures/backbone
"""

import argparse
import ctypes
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from backbone_lessons import (
    NOTHING,
    RIGHT,
    WRONG,
    Lesson,
    any_lessons,
    any_pictures,
    labelled_pictures,
    lessons,
    varied_digits,
)
from backbone_model import build_model, image_processor, pixels_of, train_tokenizer
from sklearn.metrics import roc_auc_score
from torch.nn.functional import cross_entropy

from bisieve.synthetic.pictures import Digits, held_out_digits
from bisieve.synthetic.tasks import TASKS

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # parameters of mallopt(3)
SHARPNESS = 4.0  # factor of the dot product of an image token and a digit's embedding
TEXT_WEIGHT = 0.5  # weight of the loss on the statements' text; that on the verdicts has weight 1


def keep_freed_memory() -> None:
    """Keep glibc from returning freed big blocks: to fault them in again costs more than the arithmetic."""
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


class Teacher:
    """The training of a model: its losses, its exam on held-out digits, and the loop."""

    def __init__(self, model: Any, tokenizer: Any, digits: Digits, rng: np.random.Generator) -> None:
        self.model, self.tokenizer, self.digits, self.rng = model, tokenizer, digits, rng
        self.digit_ids = torch.tensor(
            self.tokenizer.convert_tokens_to_ids([f"Ġ{digit}" for digit in range(10)])
        )
        self.verdict_ids = self.tokenizer.convert_tokens_to_ids([RIGHT, WRONG])

    def seen(self, pictures: np.ndarray) -> torch.Tensor:
        """Return the logits of the ten digits at each image token, [pictures, 16, 10]."""
        features = self.model.model.get_image_features(pixel_values=pixels_of(pictures))
        features = getattr(features, "pooler_output", features).reshape(len(pictures), 16, -1)
        return SHARPNESS * features @ self.model.get_input_embeddings().weight[self.digit_ids].T

    def sight_loss(self, batch: int) -> torch.Tensor:
        """Return the cross-entropy of the digits at the image tokens, for a new batch."""
        pictures, labels = any_pictures(self.digits, batch, self.rng)
        logits = self.seen(pictures).flatten(0, 1)
        return cross_entropy(logits, torch.from_numpy(labels).flatten(), ignore_index=NOTHING)

    def verdict_loss(self, batch: int) -> torch.Tensor:
        """Return the loss on the verdicts plus `TEXT_WEIGHT` times that on the text, for a new batch."""
        logits, targets = self.answers(any_lessons(self.digits, batch, self.rng))
        losses = cross_entropy(logits, targets, reduction="none")
        verdict = torch.isin(targets, torch.tensor(self.verdict_ids))
        return losses[verdict].mean() + TEXT_WEIGHT * losses[~verdict].mean()

    def joint_loss(self, batch: int) -> torch.Tensor:
        """Return the sum of both losses, so that the model still reads digits while it learns to judge."""
        return self.verdict_loss(batch) + self.sight_loss(batch)

    def answers(self, batch: list[Lesson]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits, [learned tokens, vocabulary], and the target tokens, [learned tokens]."""
        rows, labels = [], []
        for lesson in batch:
            encoded = self.tokenizer([text for text, _ in lesson.parts])["input_ids"]
            rows.append([token for part in encoded for token in part])
            learned = [learn for part, (_, learn) in zip(encoded, lesson.parts, strict=True) for _ in part]
            labels.append(
                [token if learn else NOTHING for token, learn in zip(rows[-1], learned, strict=True)]
            )
        length, pad = max(map(len, rows)), self.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (length - len(row)) + row for row in rows])
        targets = torch.tensor([[NOTHING] * (length - len(row)) + row for row in labels])[:, 1:]
        pixels = pixels_of(np.stack([lesson.picture for lesson in batch]))
        hidden = self.model.model(
            input_ids=ids, attention_mask=(ids != pad).long(), pixel_values=pixels
        ).last_hidden_state[:, :-1]
        return self.model.lm_head(hidden[targets != NOTHING]), targets[targets != NOTHING]

    @torch.no_grad()
    def exam(self) -> dict[str, float]:
        """Return the share of image tokens read right and the AUC of the verdicts, on held-out digits."""
        rng, held_out = np.random.default_rng(7), held_out_digits()
        read, scores, true = [], [], []
        for task in TASKS:
            pictures, labels = labelled_pictures(task, held_out, 64, rng)
            right = self.seen(pictures).argmax(-1).numpy() == labels
            read += right[labels != NOTHING].tolist()
            logits, targets = self.answers(lessons(task, held_out, 64, rng))
            verdict = torch.isin(targets, torch.tensor(self.verdict_ids))
            yes, no = (logits[verdict][:, token] for token in self.verdict_ids)
            scores += (yes - no).tolist()
            true += (targets[verdict] == self.verdict_ids[0]).tolist()
        return {"read": float(np.mean(read)), "verdict AUC": float(roc_auc_score(true, scores))}

    def teach(self, loss, parameters: list, steps: int, batch: int, peak: float = 2e-3) -> None:
        """Train ``parameters`` with AdamW: warm-up over 5 % of the steps, then cosine; print the progress."""
        optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.98), weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=peak, total_steps=steps, pct_start=0.05, cycle_momentum=False
        )
        started = time.monotonic()
        for step in count(1):
            value = loss(batch)
            value.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if step % 100 == 0 or step == steps:
                marks = "  ".join(f"{name} {mark:.3f}" for name, mark in self.exam().items())
                took = time.monotonic() - started
                print(f"step {step}/{steps}  loss {value.item():.3f}  {marks}  {took:.0f} s", flush=True)
            if step == steps:
                return


def main() -> None:
    """Parse the options, train the model and save it with its tokenizer and image processor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--sight-steps", type=int, default=2500)
    parser.add_argument("--verdict-steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    digits = varied_digits(rng)
    tokenizer = train_tokenizer(lesson.text for lesson in any_lessons(digits, 2000, rng))
    model = build_model(tokenizer)
    teacher = Teacher(model, tokenizer, digits, rng)
    sight = [weight for name, weight in model.named_parameters() if "language_model" not in name]
    teacher.teach(teacher.sight_loss, [*sight, model.get_input_embeddings().weight], args.sight_steps, 64)
    teacher.teach(teacher.joint_loss, list(model.parameters()), args.verdict_steps, 32)
    for part in (model, tokenizer, image_processor()):
        part.save_pretrained(args.output)


if __name__ == "__main__":
    main()
