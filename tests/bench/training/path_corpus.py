"""What the benchmark of the data path feeds on: photographs and rollouts of VisualPRM400K's lengths."""

import json
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from support.backbones import tokenizer_with
from support.handmade import publish_rows
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from bench.training.rollouts import PER_PROMPT, STEPS
from bisieve.index.reader import open_index
from bisieve.index.selection import Selection, read_selection
from bisieve.shards.listing import list_shards
from ray_train.data.encode import Encoder
from ray_train.data.packing import Packer, PromptReader
from ray_train.model.backbone import make_processor
from ray_train.model.prompt_format import PromptFormat

SHAPE = (900, 1200)  # pixels, height first: six tiles of 448 and a thumbnail


def make_corpus(folder: Path, prompts: int) -> Selection:
    """Three rollouts for each of ``prompts`` images, which lie in ``folder``."""
    words = random.Random(0)
    records = []
    for number in range(prompts):
        _photograph(number).save(folder / f"{number}.jpg", quality=90)
        for _ in range(PER_PROMPT):
            steps = [{"step": _words(words, 25), "score": 1.0} for _ in range(STEPS)]
            question = f"{number} " + "what is the sum of the digits? " * 6
            records.append({"image": f"{number}.jpg", "question": question, "steps_with_score": steps})
    lines = [json.dumps(record) + "\n" for record in records]
    (folder / "bench.jsonl").write_text("".join(lines))
    (file,) = list_shards([str(folder / "bench.jsonl")])
    rows, offset = [], 0
    for rank, (line, record) in enumerate(zip(lines, records, strict=True), start=1):
        rows.append({
            "source": "bench", "rank": rank, "rollout_id": str(rank), "question_id": record["question"],
            "bis": 0.0, "num_steps": STEPS, "scores": [1.0] * STEPS,
            "spans": [{"shard": file.url, "offset": offset, "length": len(line)}],
        })  # fmt: skip
        offset += len(line)
    publish_rows(str(folder / "index"), rows, [str(folder)], [file])
    return read_selection(open_index(str(folder / "index")), 1.0)


def _photograph(seed: int) -> Image.Image:
    """Soft shapes with grain: as large as a JPEG as a photograph is."""
    noise = np.random.default_rng(seed)
    soft = Image.fromarray(noise.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(SHAPE[::-1])
    grain = noise.normal(0, 8, (*SHAPE, 1))
    return Image.fromarray((np.asarray(soft) + grain).clip(0, 255).astype(np.uint8))


def _words(words: random.Random, number: int) -> str:
    return " ".join(words.choice(["the", "digit", "is", "sum", "answer", "3", "7"]) for _ in range(number))


def make_packer(budget: int, side: int, tile_tokens: int) -> Packer:
    """InternVL's way from text and images to packs, with a tokenizer of 400 tokens."""
    named = {
        "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }  # fmt: skip
    tokenizer = tokenizer_with([*named.values(), "<prm>"], extra_special_tokens=named)
    images = GotOcr2ImageProcessorPil(size={"height": side, "width": side})
    processor = make_processor("InternVLProcessor", images, tokenizer, {"image_seq_length": tile_tokens})
    options = {"crop_to_patches": True, "min_patches": 1, "max_patches": 6}
    marker, slot = tokenizer.convert_tokens_to_ids(["<prm>", "<IMG_CONTEXT>"])
    encoder = Encoder(processor, PromptFormat("<IMG_CONTEXT>", options), (), marker, 8192)
    reader = PromptReader(encoder, ("pixel_values",), slot)
    return Packer(reader, lambda tokens, _: torch.arange(len(tokens)), budget)
