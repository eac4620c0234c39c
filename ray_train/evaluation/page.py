"""Add the results of an evaluation to the page (README.md) of the model that was evaluated."""

from typing import Any

import yaml

from bisieve.errors import StorageError
from bisieve.io import storage
from bisieve.io.urls import join
from ray_train.choices import TEST, TRAINING
from ray_train.model.model_card import README
from ray_train.model.model_results import with_evaluation


def add_to_page(model: str, numbers: dict[str, Any]) -> str:
    """Write the results into the README.md of a local folder that ``bisieve train`` published.

    Nothing is written for a model of the hub or of a store, for one that bisieve did not train, and for
    results that a model's page should not show: of the paper's prompt, or with a threshold that was tuned on
    the test.

    Args:
        model: Folder or URL of the model, as it was evaluated.
        numbers: Content of ``metrics.json``.

    Returns:
        A line for the user; empty if there was nothing to do.
    """
    own = numbers["trained"] and numbers["prompt"] == TRAINING and numbers["threshold_on"] != TEST
    page = join(model, README)
    if not own or not model.startswith("file://") or not storage.exists(page):
        return ""
    try:
        text = with_evaluation(storage.read_bytes(page).decode(), numbers)
        if text is None:
            return ""
        storage.write_bytes(page, text.encode())
    except (StorageError, ValueError, yaml.YAMLError) as error:
        return f"note: {README} of the model is unchanged: {' '.join(str(error).split())[:200]}"
    return f"model card: {page}"
