"""Makes the base backbone: a tiny InternVL that reads digits, adds, and judges single statements.

It stands in for a pretrained MLLM in the tests and the demo.  Deterministic for a given machine and number of
threads.  Prints the loss on the way and token, digit and verdict accuracy on held-out digits at the end.

    python infra/demo/make_backbone.py --output tests/fixtures/backbone
"""

import argparse
import ctypes
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from backbone_lessons import RIGHT, WRONG, Kind, batches, varied_digits
from backbone_model import build_model, image_processor, train_tokenizer
from torch.nn.functional import cross_entropy

from bisieve.corpus.digits import held_out_digits

IGNORED = -100
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)
TOKENIZER_BATCHES = 100
EXAM_SIZE = 32
REPORT_EVERY = 100  # steps
WEIGHTS = {"digit": 1.0, "verdict": 1.0, "text": 0.3}  # of the losses
PHASES = (  # steps, and the kinds of lessons in them
    (500, (Kind.READING,)),
    (700, (Kind.READING, Kind.CHECKS)),
    (1400, (Kind.SOLUTION, Kind.VERDICTS, Kind.CHECKS)),
)


def keep_freed_memory() -> None:
    """glibc gives big blocks back at once; faulting them in again costs more than the arithmetic."""
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def collate(batch, tokenizer):
    """Lessons as padded tensors; labels are -100 where nothing is to be learned."""
    rows, targets = [], []
    for lesson in batch:
        ids, labels = [], []
        for (_, learned), part in zip(
            lesson.parts, tokenizer([text for text, _ in lesson.parts])["input_ids"], strict=True
        ):
            ids += part
            labels += part if learned else [IGNORED] * len(part)
        rows.append(ids)
        targets.append(labels)
    length = max(map(len, rows))
    pad = tokenizer.pad_token_id
    input_ids = torch.tensor([ids + [pad] * (length - len(ids)) for ids in rows])
    labels = torch.tensor([row + [IGNORED] * (length - len(row)) for row in targets])
    grey = torch.from_numpy(np.stack([lesson.picture for lesson in batch])).float()
    pixels = ((grey / 255 - 0.5) / 0.5)[:, None].expand(-1, 3, -1, -1)
    return {
        "input_ids": input_ids,
        "attention_mask": (input_ids != pad).long(),
        "pixel_values": pixels,
    }, labels


def learned_logits(model, inputs, labels):
    """Logits and targets at the learned positions alone."""
    hidden = model.model(**inputs).last_hidden_state[:, :-1]
    places = labels[:, 1:] != IGNORED
    return model.lm_head(hidden[places]), labels[:, 1:][places]


def lesson_loss(logits, targets, classes):
    """A weighted sum of mean losses: numbers are what is hard, so other text must not drown them."""
    losses = cross_entropy(logits, targets, reduction="none")
    means = {
        name: losses[places].sum() / places.sum().clamp(min=1)
        for name, places in places_of(targets, classes).items()
    }
    return sum(WEIGHTS[name] * mean for name, mean in means.items())


def places_of(targets, classes):
    """Where the targets are digits, verdicts, or other text."""
    places = {name: torch.isin(targets, ids) for name, ids in classes.items()}
    return places | {"text": ~torch.stack(list(places.values())).any(dim=0)}


def token_classes(tokenizer):
    """The token ids of digits and of verdicts."""
    digits = [i for token, i in tokenizer.get_vocab().items() if token.lstrip("Ġ").isdigit()]
    return {
        "digit": torch.tensor(sorted(digits)),
        "verdict": torch.tensor(tokenizer.convert_tokens_to_ids([RIGHT, WRONG])),
    }


@torch.no_grad()
def accuracies(model, tokenizer, stream, count):
    """Shares of right greedy predictions in ``count`` batches: digits, verdicts, other text."""
    hits, targets = [], []
    for batch in islice(stream, count):
        logits, wanted = learned_logits(model, *collate(batch, tokenizer))
        hits.append((logits.argmax(-1) == wanted).float())
        targets.append(wanted)
    hits, targets = torch.cat(hits), torch.cat(targets)
    places = places_of(targets, token_classes(tokenizer))
    return {name: hits[here].mean().item() for name, here in places.items() if here.any()}


def curriculum(digits, size, rng):
    """Batches of all phases, one after the other."""
    for steps, kinds in PHASES:
        yield from islice(batches(kinds, digits, size, rng), steps)


def train(model, tokenizer, lessons, steps, learning_rate, report):
    """AdamW, warm-up over 5 % of the steps, then cosine."""
    classes = token_classes(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=steps, pct_start=0.05, cycle_momentum=False
    )
    for step, batch in enumerate(lessons, start=1):
        inputs, labels = collate(batch, tokenizer)
        loss = lesson_loss(*learned_logits(model, inputs, labels), classes)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        report(step, loss.item())


def main() -> None:
    """Parses, trains, saves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    started = time.monotonic()

    def random(stream: int) -> np.random.Generator:
        return np.random.default_rng([args.seed, stream])

    def save() -> None:
        for part in (model, tokenizer, image_processor()):
            part.save_pretrained(args.output)

    def report(step: int, loss: float) -> None:
        if step % REPORT_EVERY == 0 or step == steps:
            scores = [f"{name} {score:.4f}" for name, score in accuracies(model, tokenizer, exam, 8).items()]
            took = f"{time.monotonic() - started:.0f} s"
            print(f"step {step}/{steps}", f"loss {loss:.4f}", *scores, took, sep="  ", flush=True)
            save()

    digits = varied_digits(random(0))
    sample = islice(batches(tuple(Kind), digits, args.batch_size, random(1)), TOKENIZER_BATCHES)
    tokenizer = train_tokenizer(lesson.text for batch in sample for lesson in batch)
    model = build_model(tokenizer).train()
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens", flush=True)
    steps = sum(steps for steps, _ in PHASES)
    exam = batches(tuple(Kind), held_out_digits(), EXAM_SIZE, random(2))
    lessons = curriculum(digits, args.batch_size, random(3))
    train(model, tokenizer, lessons, steps, args.learning_rate, report)


if __name__ == "__main__":
    main()
