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
from backbone_lessons import RIGHT, WRONG, batches, mixed_batches, reading_batches, varied_digits
from backbone_model import build_model, image_processor, train_tokenizer
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, InternVLForConditionalGeneration

from bisieve.corpus.digits import held_out_digits

IGNORED = -100
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)
TOKENIZER_BATCHES = 100
EXAM_SIZE = 64


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


def lesson_loss(logits, targets, verdicts):
    """Text and verdicts count the same, however many tokens each has."""
    losses = cross_entropy(logits, targets, reduction="none")
    is_verdict = torch.isin(targets, verdicts)
    return sum(losses[kind].sum() / kind.sum().clamp(min=1) for kind in (is_verdict, ~is_verdict))


@torch.no_grad()
def accuracies(model, tokenizer, stream, verdicts, count):
    """Shares of right greedy predictions: all text tokens, digits, verdicts."""
    digits = torch.tensor([i for token, i in tokenizer.get_vocab().items() if token.lstrip("Ġ").isdigit()])
    hits, targets = [], []
    for batch in islice(stream, count):
        logits, wanted = learned_logits(model, *collate(batch, tokenizer))
        hits.append((logits.argmax(-1) == wanted).float())
        targets.append(wanted)
    hits, targets = torch.cat(hits), torch.cat(targets)
    is_verdict, is_digit = torch.isin(targets, verdicts), torch.isin(targets, digits)
    kinds = {"token": ~is_verdict, "digit": is_digit, "verdict": is_verdict}
    return {kind: round(hits[places].mean().item(), 4) for kind, places in kinds.items() if places.any()}


def train(model, tokenizer, stream, steps, learning_rate, verdicts, report):
    """AdamW, warm-up over 5 % of the steps, then cosine."""
    if steps == 0:
        return
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=learning_rate, total_steps=steps, pct_start=0.05, cycle_momentum=False
    )
    model.train()
    for step in range(1, steps + 1):
        inputs, labels = collate(next(stream), tokenizer)
        loss = lesson_loss(*learned_logits(model, inputs, labels), verdicts)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        report(step, loss.item())


def main() -> None:
    """Parses, trains, saves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--reading-steps", type=int, default=1300)
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument(
        "--start", type=Path, help="a folder made with --steps 0, instead of learning to read"
    )
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

    digits, held_out = varied_digits(random(0)), held_out_digits()
    if args.start:
        tokenizer = AutoTokenizer.from_pretrained(args.start)
        model = InternVLForConditionalGeneration.from_pretrained(args.start)
        args.reading_steps = 0
    else:
        sample = islice(batches(digits, args.batch_size, random(1)), TOKENIZER_BATCHES)
        tokenizer = train_tokenizer(lesson.text for batch in sample for lesson in batch)
        model = build_model(tokenizer)
    verdicts = torch.tensor(tokenizer.convert_tokens_to_ids([RIGHT, WRONG]))
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens", flush=True)

    def show(scores: dict[str, float], *more: str) -> None:
        shown = [f"{kind} {score:.4f}" for kind, score in scores.items()]
        print("  ".join([*more, *shown, f"{time.monotonic() - started:.0f} s"]), flush=True)

    def learn(lessons, exam, steps: int, learning_rate: float) -> None:
        def report(step: int, loss: float) -> None:
            if step % 150 == 0:
                show(accuracies(model, tokenizer, exam, verdicts, 4), f"step {step}", f"loss {loss:.4f}")

        train(model, tokenizer, lessons, steps, learning_rate, verdicts, report)

    learn(
        reading_batches(digits, 2 * args.batch_size, random(2)),
        reading_batches(held_out, EXAM_SIZE, random(3)),
        args.reading_steps,
        args.learning_rate,
    )
    model.model.vision_tower.requires_grad_(False)  # what reads well shall go on reading well
    exam = batches(held_out, EXAM_SIZE, random(4))
    learn(mixed_batches(digits, args.batch_size, random(5)), exam, args.steps, args.learning_rate / 2)
    show(accuracies(model, tokenizer, exam, verdicts, 32), "on held-out digits")
    model.save_pretrained(args.output)
    tokenizer.save_pretrained(args.output)
    image_processor().save_pretrained(args.output)


if __name__ == "__main__":
    main()
