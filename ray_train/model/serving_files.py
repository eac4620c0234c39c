"""The files by which other programs use a published model: vLLM's options, chat template, processor.

    bisieve.json, config.json, tokenizer ──▶ vllm.yaml, chat_template.jinja, processor_config.json

``vllm serve FOLDER --config FOLDER/vllm.yaml`` then gives P(Yes) at every marker, as bisieve's own scorer. Of
messages, the chat template makes exactly the text that the model was trained on:

    user: images and text ──┐
                            ├──chat_template.jinja──▶ the text of `PromptFormat.render`
    assistant: a text part per step ──┘

Other libraries, such as transformers and vLLM, apply the template. It refuses whatever would become another
text than in training: a system message, a message that is one string, a reserved token, and a placeholder
such as ``<image>`` in a text.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from bisieve.io import storage
from bisieve.io.urls import canonical, join
from bisieve.records.prompt import PLACEHOLDER, placeholders, process_text
from ray_train.model.backbone import Backbone
from ray_train.model.families import Family
from ray_train.model.metadata import CARD, trained_card
from ray_train.model.prompt_format import PromptFormat, format_in, reserved_tokens
from ray_train.model.skeleton import load_skeleton

TEMPLATE = "chat_template.jinja"
VLLM, PROCESSOR, IMAGES = "vllm.yaml", "processor_config.json", "preprocessor_config.json"
MOST_IMAGES = 8  # of a request to vLLM, which reserves memory for as many

_HEAD = """\
# Options of vLLM for this model, made by bisieve from bisieve.json and config.json:
#     vllm serve FOLDER --config FOLDER/vllm.yaml
# Every request to /pooling must have "task": "token_classify". One with several images also needs the
# mm_processor_kwargs that bisieve.json has for their number (several_image_options); vLLM takes them if it is
# started with --trust-request-mm-kwargs, for clients that you trust.
"""
_NO_KAPPA = "# The κ head of this model is not served: rewards are means, without a risk term.\n"
_JINJA = """\
{#- Renders a question with its images, and the steps of a solution, as bisieve's model was trained on them.
    user: images, then text (or images inside the text); assistant: a text part for each step. -#}
{%- set found = namespace(images="", question="", text="", plain="", process="", steps=0, started=false) -%}
{%- if messages | map(attribute="role") | list != ["user", "assistant"] -%}
  {{- raise_exception("expected a user message (images and question), then an assistant message (steps); \
no system message") -}}
{%- endif -%}
{%- for message in messages -%}
  {%- if message.content is string -%}
    {{- raise_exception("expected a list as content, of the assistant with a text part for each step; \
found a string") -}}
  {%- endif -%}
  {%- for part in message.content -%}
    {%- if part.type == "text" -%}
      {%- for rest in (part.text | lower).split("<image")[1:] -%}
        {%- set number = rest.split(">")[0] -%}
        {%- if ">" in rest and message.role == "user" and (number == "" or number.isdigit()
            or (number[0] in " _-" and number[1:].isdigit())) -%}
          {{- raise_exception("expected image parts where the images are in the question; \
found the text <image" ~ number ~ ">") -}}
        {%- endif -%}
      {%- endfor -%}
      {%- if message.role == "user" -%}
        {%- set found.started = true -%}
        {%- set found.question = found.question ~ part.text -%}
        {%- set found.plain = found.plain ~ part.text -%}
      {%- else -%}
        {%- set found.process = found.process ~ (SEPARATOR if found.steps else "") ~ (part.text | trim) \
~ MARKER -%}
        {%- set found.plain = found.plain ~ "\\n" ~ part.text -%}
        {%- set found.steps = found.steps + 1 -%}
      {%- endif -%}
    {%- elif part.type in ("image", "image_url", "input_image") and message.role == "user" -%}
      {%- set found.plain = found.plain ~ "\\n" -%}
      {%- if not found.started -%}
        {%- set found.images = found.images ~ SLOT ~ "\\n" -%}
      {%- elif IN_PLACE -%}
        {%- set found.question = found.question ~ SLOT -%}
      {%- else -%}
        {{- raise_exception("expected all images before the text, as this model was trained") -}}
      {%- endif -%}
    {%- else -%}
      {{- raise_exception("expected parts that are texts, and images of the user; found " ~ part.type) -}}
    {%- endif -%}
  {%- endfor -%}
{%- endfor -%}
{%- if not found.steps -%}{{- raise_exception("expected at least one step; found none") -}}{%- endif -%}
{%- for token in RESERVED -%}
  {%- if token in found.plain -%}
    {{- raise_exception("expected no token of the prompt in question and steps; found " ~ token) -}}
  {%- endif -%}
{%- endfor -%}
{{- HEAD ~ found.images ~ QUESTION ~ (found.question | trim) ~ PROCESS ~ found.process ~ TAIL -}}
"""

Part: TypeAlias = int | str  # of a message: the number of an image, from 0, or a text

# A placeholder that is to be read as text is divided after its first character, so that no part has one.
_DIVIDE = re.compile(r"(?<=<)(?=image(?:[ _-]?[0-9]+)?>)", re.IGNORECASE)


def serving_files(backbone: Backbone, card: dict[str, Any]) -> dict[str, str]:
    """Return the content of the files for other programs, by name.

    ``vllm.yaml`` is left out where vLLM cannot give this model's rewards (`why_not_served`).

    Args:
        backbone: Its model gives the config; weights are not read.
        card: Content of ``bisieve.json``.
    """
    format, family, tokenizer = format_in(card, CARD), backbone.family, backbone.processor.tokenizer
    config = backbone.model.config
    processor = {"processor_class": family.processor, **family.processor_options(config)}
    files = {TEMPLATE: chat_template(format, family, tokenizer), PROCESSOR: _json(processor)}
    if not why_not_served(backbone, format):
        files[VLLM] = vllm_options(backbone, format, card)
    return files


def chat_template(format: PromptFormat, family: Family, tokenizer: Any) -> str:
    """Return the template of a model as Jinja.

    Args:
        format: Prompt format of the model.
        family: Its family.
        tokenizer: Its tokenizer, with the marker. A token that it puts in front of a text by itself, or after
            it, is part of the template, which is to be applied without adding special tokens.
    """
    before, after = _added_tokens(tokenizer)
    question, process = process_text("\0", [""], "", "").split("\0")
    texts = {
        "SLOT": format.image_slot, "MARKER": format.marker, "SEPARATOR": format.step_separator,
        "HEAD": before + format.head, "TAIL": format.tail + after, "QUESTION": question, "PROCESS": process,
        "RESERVED": list(reserved_tokens(format, family, tokenizer)), "IN_PLACE": format.in_place,
    }  # fmt: skip
    # A JSON text is a literal of Jinja, too.
    named = [f"{{%- set {name} = {json.dumps(text, ensure_ascii=False)} -%}}" for name, text in texts.items()]
    comment, rest = _JINJA.split("-#}\n", 1)
    return "\n".join([f"{comment}-#}}", *named, rest])


def _added_tokens(tokenizer: Any) -> tuple[str, str]:
    """Return the special tokens that ``tokenizer`` puts before and after a text, as texts."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    start = next(place for place in range(len(full)) if full[place : place + len(plain)] == plain)
    before, after = full[:start], full[start + len(plain) :]
    names = tokenizer.convert_ids_to_tokens
    return "".join(names(before)), "".join(names(after))


def why_not_served(backbone: Backbone, format: PromptFormat) -> str:
    """Return why vLLM cannot give the rewards of a model; empty: it can."""
    if not backbone.family.served_as:
        return f"models of type {backbone.family.model_type} were not tried with vLLM"
    find = backbone.processor.tokenizer.convert_tokens_to_ids  # how vLLM looks up a token
    others = [each for each in (format.positive, format.negative) if find(each) != backbone.token_id(each)]
    return f"vLLM finds another token for {others[0]!r}" if others else ""


def vllm_options(backbone: Backbone, format: PromptFormat, card: dict[str, Any]) -> str:
    """Return the content of ``vllm.yaml``.

    Nothing is left to vLLM's defaults that changes a reward: with other image options or rotary positions it
    would answer with other numbers, and without an error.
    """
    config = backbone.model.config
    text = config.get_text_config()
    fast = format.image_backend != "pil"
    inner: dict[str, Any] = {"tie_word_embeddings": bool(config.tie_word_embeddings)}
    if backbone.family.interleaved_axes:
        inner["rope_parameters"] = {**text.rope_parameters, "mrope_interleaved": True}
    overrides = {
        "architectures": [backbone.family.served_as],
        "classifier_from_token": [format.negative, format.positive],
        "method": "from_2_way_softmax",
        "text_config": inner,
    }
    pooler = {
        "task": "token_classify", "tok_pooling_type": "STEP",
        "step_tag_id": backbone.token_id(format.marker),
    }  # fmt: skip
    options = {
        "runner": "pooling",
        "dtype": str(config.dtype or "auto").removeprefix("torch."),  # vLLM's own choice is half precision
        "max-model-len": min(card["config"]["max_length"], text.max_position_embeddings),
        "hf-overrides": json.dumps(overrides),
        "pooler-config": json.dumps(pooler),
        "mm-processor-kwargs": json.dumps({**format.image_options, "use_fast": fast}),
        "limit-mm-per-prompt": json.dumps({"image": MOST_IMAGES, "video": 0}),
    }
    head = _HEAD + (_NO_KAPPA if "kappa" in card else "")
    return head + str(yaml.safe_dump(options, sort_keys=False, width=1000))


def image_processor_file(backbone: Backbone, format: PromptFormat) -> str:
    """Return the content of ``preprocessor_config.json``, with the image options of training as defaults."""
    own = json.loads(backbone.processor.image_processor.to_json_string())
    return _json({**own, **format.image_options})


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def add_serving_files(model: str) -> tuple[list[str], str]:
    """Write the files for other programs into the folder of a model that bisieve trained.

    Args:
        model: Folder or URL. Files of these names are replaced, but not a ``vllm.yaml`` with other options,
            which its owner may have changed; no other file is changed.

    Returns:
        The names of the files that were written, and why vLLM cannot serve the model, or an empty text.

    Raises:
        TrainingError: There is no model, it has no card, or a file of it is damaged.
        StorageError: The store fails.
    """
    url = canonical(model)
    card = trained_card(model)
    format = format_in(card, model)
    backbone = load_skeleton(url, [], format.image_backend, "--model")
    files = serving_files(backbone, card)
    options = join(url, VLLM)
    if VLLM in files and storage.exists(options) and storage.read_bytes(options) != files[VLLM].encode():
        del files[VLLM]
    for name, content in files.items():
        storage.write_bytes(join(url, name), content.encode())
    return sorted(files), why_not_served(backbone, format)


def write_texts(files: dict[str, str], folder: Path) -> None:
    """Write ``files``, contents by name, into the local ``folder``."""
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")


def user_parts(format: PromptFormat, question: str, num_images: int) -> list[Part]:
    """Return the parts of the user's message that the template renders as `PromptFormat.render` does.

    An image after the first text is inside the question; so the text in front of an image with which a
    question begins is empty. Where the placeholders of ``question`` do not match the images, they are text.

    Args:
        format: Prompt format of the model.
        question: The question, stripped, with placeholders if it has any.
        num_images: Number of images.
    """
    if format.in_place and placeholders(question, num_images) is not None:
        texts = PLACEHOLDER.split(question)[::2]  # between them is the number in each placeholder
        parts: list[Part] = [texts[0]]
        for image, text in zip(format.image_order(question, num_images), texts[1:], strict=True):
            parts += [image, text] if text else [image]
        return parts
    return [*range(num_images), *_DIVIDE.split(format.without_placeholders(question))]


def chat_messages(parts: Sequence[Part], steps: Sequence[str], images: Sequence[dict[str, Any]]) -> list[Any]:
    """Return the messages of one solution.

    Args:
        parts: Those of `user_parts`.
        steps: The steps.
        images: The content part of each image, such as ``{"type": "image"}``.
    """
    user = [images[part] if isinstance(part, int) else {"type": "text", "text": part} for part in parts]
    return [
        {"role": "user", "content": user},
        {"role": "assistant", "content": [{"type": "text", "text": step} for step in steps]},
    ]
