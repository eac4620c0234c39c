"""The README.md of a published model: a model card as the Hugging Face hub shows it.

bisieve.json ──▶ header and page; `evaluation.page` adds the results of evaluations
"""

import json
import re
from importlib import import_module
from typing import Any

from ray_train.model.families import Family
from ray_train.model.prompt_format import PromptFormat

README = "README.md"
# Between these comments `evaluation.page` writes the results of evaluations.
RESULTS, END_OF_RESULTS = "<!-- evaluations, by bisieve -->", "<!-- end of evaluations -->"
_NO_RESULTS = "This model has not been evaluated yet. `bisieve evaluate` on this folder fills this section."
_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
_RECIPE = (
    "objective", "epochs", "global_batch", "learning_rate", "weight_decay", "warmup", "lora_rank",
    "train_vision", "train_projector", "train_language", "max_length", "seed", "recipe",
)  # fmt: skip

_PAGE = """
# {name}

A multimodal process reward model: for each step of a solution of a question about images, it gives the
probability that the step is right. Trained by [bisieve](https://pypi.org/project/bisieve) from
{base}.

## Use it

```python
from ray_train import StepScorer  # pip install "bisieve[train]"

MODEL = "."  # this folder, or the hub id of this page
scorer = StepScorer(MODEL)
steps = ["The bars are 3, 7 and 5 high.", "The answer is left."]
print(scorer.score("Which bar is highest?", ["chart.png"], steps))  # P(right) of each step
```

To choose among several solutions, take the one with the highest mean. The same with transformers alone:

```python
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

MODEL = "."  # this folder, or the hub id of this page
processor = AutoProcessor.from_pretrained(MODEL)  # needs torchvision; without it, use StepScorer
processor.image_processor = AutoImageProcessor.from_pretrained(MODEL, backend="{backend}")
model = AutoModelForImageTextToText.from_pretrained(MODEL, dtype="auto").eval()
steps = ["The bars are 3, 7 and 5 high.", "The answer is left."]
messages = [
    {{"role": "user", "content": [{{"type": "image"}}, {{"type": "text", "text": "Which bar is highest?"}}]}},
    {{"role": "assistant", "content": [{{"type": "text", "text": step}} for step in steps]}},
]
text = processor.apply_chat_template(messages)
inputs = processor(
    text=[text], images=[[Image.open("chart.png").convert("RGB")]], add_special_tokens=False,
    return_tensors="pt",
)
with torch.inference_mode():
    logits = model(**inputs).logits[inputs["input_ids"] == {marker}]  # at each {marker_text}
print(logits[:, [{positive}, {negative}]].float().softmax(-1)[:, 0].tolist())  # {words}
```

{serving}## What it reads

The text of training, which `chat_template.jinja` renders from such messages (here with one step):

```text
{text}
```

An image is processed by {backend_name} with

```json
{options}
```

Several images of a question share the tiles: `several_image_options` in `bisieve.json`.
{placing}

## Data

| | |
|---|---|
{data}

## Recipe

| | |
|---|---|
{recipe}

The mean loss over the training was {mean_loss}, at its last step {loss}.{validation}

## Evaluation

{evaluations}

## Limits

- A reward says how a step looks to this model; it is not a proof. A solution whose steps all have high
  rewards can be wrong.
- Rewards are comparable within the kind of questions, images and step lengths that it was trained on. Choose
  the threshold that separates right from wrong on judged steps of your own.
- Texts longer than {max_length:,} tokens lose their trailing steps, which then have no reward. A text with a
  token of the prompt, such as `{marker_text}`, is not scored.
- MC scores, from which it learned, are estimates: a step from which a weak model never reached the answer
  was taught as wrong.{kappa}
- The licences of the backbone and of the training data apply; add them to the header of this page.
"""

_SERVING = """With vLLM (`pip install vllm`), which reads `vllm.yaml`:

```bash
vllm serve FOLDER --config FOLDER/vllm.yaml
```

Each request to `/pooling` needs `"task": "token_classify"`; `ray_train.StepClient` sends it so.

"""

_NOT_SERVED = """There is no `vllm.yaml`, so vLLM does not serve it: {why}.
`ray_train.StepScorer` and `bisieve predict` score with it.

"""


def model_card(
    card: dict[str, Any], format: PromptFormat, family: Family, name: str, why_not_served: str = ""
) -> str:
    """Return the README.md of a new model.

    Args:
        card: Content of ``bisieve.json``.
        format: Prompt format of the model.
        family: Its family.
        name: What the page is called.
        why_not_served: Why there is no ``vllm.yaml``; empty if there is one.
    """
    hub: Any = import_module("huggingface_hub")
    config, ids, metrics = card["config"], card["token_ids"], card["metrics"]
    is_hub_id = bool(_HUB_ID.fullmatch(card["backbone"]))
    base = card["backbone"] if is_hub_id else card["backbone"].rstrip("/").rpartition("/")[2]
    header = hub.ModelCardData(
        library_name="transformers", pipeline_tag="image-text-to-text", model_name=name,
        tags=["process-reward-model", "reward-model", "multimodal", "bisieve", family.model_type],
        **({"base_model": base} if is_hub_id else {}),
    )  # fmt: skip
    page = _PAGE.format(
        name=name, base=f"[{base}](https://huggingface.co/{base})" if is_hub_id else f"`{base}`",
        backend=format.image_backend, backend_name={"pil": "PIL"}.get(format.image_backend, "torchvision"),
        marker=ids[format.marker], marker_text=format.marker,
        positive=ids[format.positive], negative=ids[format.negative],
        words=f"{format.positive} against {format.negative}",
        serving=_NOT_SERVED.format(why=why_not_served) if why_not_served else _SERVING,
        text=format.render("Which bar is highest?", ["The bars are 3, 7 and 5 high."], 1),
        options=json.dumps(format.image_options),
        placing=(
            "An image goes where its placeholder, such as `<image>`, is in the question, else in front."
            if format.in_place
            else "All images are in front of the question."
        ),
        data="\n".join(_row(*pair) for pair in _data(card)),
        recipe="\n".join(_row(key, config[key]) for key in _RECIPE if config.get(key) not in (None, "")),
        mean_loss=_short(metrics["mean_loss"]), loss=_short(metrics["loss"]), validation=_validation(metrics),
        max_length=config["max_length"],
        kappa="" if "kappa" not in card else "\n- The κ head (`kappa.safetensors`) is read by bisieve alone.",
        evaluations=f"{RESULTS}\n{_NO_RESULTS}\n{END_OF_RESULTS}",
    )  # fmt: skip
    return f"---\n{header.to_yaml(line_break=chr(10))}\n---\n{page}"


def _data(card: dict[str, Any]) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = [
        ("rollouts", f"{card['rollouts']:,}, {card['fraction_delivered']:.2%} of the index"),
        ("fraction asked for", f"{card['fraction_asked']:.4g}"),
    ]
    if card.get("sources"):  # not in cards of older runs, as the next
        rows.append(("sources", f"{card['sources']:,}"))
    rows += card.get("ranked_by", {}).items()
    rows.append(("fingerprint of the index", card["identity"]["index"]))
    if card.get("held_out"):
        rows.append(("rollouts held out for validation", f"{card['held_out']:,}"))
    if card.get("left_out_missing_images"):
        rows.append(("left out, for a missing image", f"{card['left_out_missing_images']:,}"))
    return rows


def _validation(metrics: dict[str, Any]) -> str:
    if metrics.get("validation_f1") is None:
        return ""
    ends = [_short(metrics[name]) for name in ("validation_f1_low", "validation_f1_high") if name in metrics]
    between = f" ({' to '.join(ends)})" if ends else ""
    return (
        f" On held-out rollouts, against MC labels: loss {_short(metrics['validation_loss'])}, macro-F1 "
        f"{_short(metrics['validation_f1'])}{between}."
    )


def _row(name: str, value: Any) -> str:
    return f"| {name.replace('_', ' ')} | {str(value).replace('|', '&#124;')} |"


def _short(value: float) -> str:
    return f"{value:.4f}"


def named_after(readme: str, repository: str) -> str:
    """Return ``readme`` with ``repository``, a hub id, as the model that its examples load."""
    return readme.replace('MODEL = "."  # this folder, or the hub id of this page', f'MODEL = "{repository}"')
