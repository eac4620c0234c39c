"""P(Yes) of a solution's steps by transformers alone: what ``bisieve evaluate`` has to agree with.

Nothing here comes from bisieve.  The text is written out by hand, and one step after the other is read at the
last position of the whole logits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

SYSTEM = (
    "<|im_start|>system\n你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位"
    "联合开发的多模态大语言模型。<|im_end|>\n"
)
HEAD = "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"
HEADS = {
    "internvl": SYSTEM + HEAD,
    "gemma3": "<start_of_turn>user\n<end_of_turn>\n<start_of_turn>model\n",
}
OWN_TOKENS = ("<prm>", "Yes", "No")


@dataclass
class PlainModel:
    """A checkpoint as transformers loads it, with a marker."""

    model: Any
    tokenizer: Any
    images: Any
    family: str  # as config.json names it

    @torch.inference_mode()
    def rewards(
        self, image: Image.Image, question: str, steps: list[str], tokens: tuple[str, str, str] = OWN_TOKENS,
        as_the_papers_evaluation: bool = False,
    ) -> list[float]:  # fmt: skip
        """Return P(Yes) against P(No) at the marker behind each step; ``tokens`` are other such three."""
        head, join = "", "\n\n"
        if as_the_papers_evaluation:
            head, join = self._head.replace(f"user\n{self._end}\n", "user\n"), ""
        process = join.join(step + tokens[0] for step in steps)
        return self.read(f"[image]\nQuestion: {question}\nProcess: {process}", [image], 1, tokens, head)

    @torch.inference_mode()
    def read(
        self, text: str, images: Sequence[Image.Image], tiles: int = 1,
        tokens: tuple[str, str, str] = OWN_TOKENS, head: str = "",
    ) -> list[float]:  # fmt: skip
        """Return P(Yes) against P(No) at each marker of ``text``.

        Args:
            text: the model's turn, with ``[image]`` in the place of each image.
            images: in the order of their places.
            tiles: that each of the images may have.
            tokens: marker, Yes and No.
            head: what begins the chat where it is not the family's.
        """
        marker, *words = tokens
        seen = [self._seen(image.convert("RGB"), tiles) for image in images]
        for _, slot in seen:
            text = text.replace("[image]", slot, 1)
        pixels = {name: torch.cat([each[name] for each, _ in seen]) for name in seen[0][0]}
        text = (head or self._head) + text + self._end
        ids = self.tokenizer(text, return_tensors="pt")["input_ids"]
        more = {}
        if self.family == "gemma3":
            more = {"token_type_ids": (ids == self._id("<image_soft_token>")).int()}
        elif self.family != "internvl":
            more = {"mm_token_type_ids": (ids == self._id("<|image_pad|>")).int()}
        logits = self.model(input_ids=ids, **pixels, **more).logits[0]
        at_markers = logits[ids[0] == self._id(marker)]
        answers = at_markers[:, [self._id(word) for word in words]]
        return answers.softmax(dim=-1)[:, 0].tolist()

    @property
    def _head(self) -> str:
        return HEADS.get(self.family, HEAD)

    @property
    def _end(self) -> str:
        return "<end_of_turn>" if self.family == "gemma3" else "<|im_end|>"

    def _seen(self, image: Image.Image, tiles: int) -> tuple[dict[str, torch.Tensor], str]:
        """The image's tensors, in up to ``tiles`` tiles, and what stands for it in the text."""
        if self.family == "gemma3":
            pixels = self.images(image, return_tensors="pt")["pixel_values"]
            tokens = "<image_soft_token>" * self.model.config.mm_tokens_per_image
            return {"pixel_values": pixels}, f"\n\n<start_of_image>{tokens}<end_of_image>\n\n"
        if self.family == "internvl":
            pixels = self.images(
                image, crop_to_patches=True, min_patches=1, max_patches=tiles, return_tensors="pt"
            )
            tokens = len(pixels["pixel_values"]) * self.model.config.image_seq_length
            slot = "<img>" + "<IMG_CONTEXT>" * tokens + "</img>"
            return {"pixel_values": pixels["pixel_values"]}, slot
        edge = self.images.patch_size * 2
        size = {"shortest_edge": edge**2, "longest_edge": tiles * 256 * edge**2}
        pixels = self.images(image, size=size, return_tensors="pt")
        tokens = int(pixels["image_grid_thw"].prod()) // 4
        return dict(pixels), "<|vision_start|>" + "<|image_pad|>" * tokens + "<|vision_end|>"

    def _id(self, token: str) -> int:
        return int(self.tokenizer.convert_tokens_to_ids(token))


def load_plain(folder: Path, marker: str = "<prm>") -> PlainModel:
    """Load the checkpoint in ``folder`` in fp32, and give it ``<prm>`` by hand where that is its marker."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = AutoImageProcessor.from_pretrained(folder, backend="pil")
    if marker == "<prm>" and marker not in tokenizer.get_vocab():
        _add_marker(model, tokenizer)
    return PlainModel(model, tokenizer, images, model.config.model_type)


def _add_marker(model: Any, tokenizer: Any) -> None:
    """Write the mean of all tokens' rows behind these rows: over a padding row, or into a new one."""
    used = len(tokenizer)
    tokenizer.add_tokens(["<prm>"], special_tokens=True)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        rows = layer.weight.detach()[:used]
        layer.weight = torch.nn.Parameter(torch.cat([rows, rows.mean(0, keepdim=True)]))
