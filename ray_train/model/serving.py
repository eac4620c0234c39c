"""The files by which other programs use a published model: vLLM's options, chat template, processor.

    bisieve.json, config.json, tokenizer ──▶ vllm.yaml, chat_template.jinja, processor_config.json

``vllm serve FOLDER --config FOLDER/vllm.yaml`` then gives P(Yes) at every marker, as bisieve's own scorer.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from bisieve.io import storage
from bisieve.io.urls import canonical, join
from ray_train.model.backbone import Backbone
from ray_train.model.chat_template import TEMPLATE, chat_template
from ray_train.model.metadata import CARD, trained_card
from ray_train.model.prompt_format import PromptFormat, format_in
from ray_train.model.skeleton import load_skeleton

VLLM, PROCESSOR, IMAGES = "vllm.yaml", "processor_config.json", "preprocessor_config.json"
SERVING = (VLLM, TEMPLATE, PROCESSOR)
MOST_IMAGES = 8  # of a request to vLLM, which reserves memory for as many

_HEAD = """\
# Options of vLLM for this model, made by bisieve from bisieve.json and config.json:
#     vllm serve FOLDER --config FOLDER/vllm.yaml
# Every request to /pooling must have "task": "token_classify". One with several images also needs the
# mm_processor_kwargs that bisieve.json has for their number (several_image_options); vLLM takes them if it is
# started with --trust-request-mm-kwargs, for clients that you trust.
"""
_NO_KAPPA = "# The κ head of this model is not served: rewards are means, without a risk term.\n"


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


def add_serving_files(model: str) -> tuple[list[str], str]:
    """Write the files for other programs into the folder of a model that bisieve trained.

    Args:
        model: Folder or URL. Files of these names are replaced; no other file is changed.

    Returns:
        The names of the files, and why vLLM cannot serve the model, or an empty text.

    Raises:
        TrainingError: There is no model, it has no card, or a file of it is damaged.
        StorageError: The store fails.
    """
    url = canonical(model)
    card = trained_card(model)
    format = format_in(card, model)
    backbone = load_skeleton(url, [], format.image_backend, "--model")
    files = serving_files(backbone, card)
    for name, content in files.items():
        storage.write_bytes(join(url, name), content.encode())
    return sorted(files), why_not_served(backbone, format)


def write_texts(files: dict[str, str], folder: Path) -> None:
    """Write ``files``, contents by name, into the local ``folder``."""
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
