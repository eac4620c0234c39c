"""Parameters without weights."""

from pathlib import Path

import torch

from bisieve import storage
from ray_train.estimates.skeleton import load_skeleton, parameters, trained_parameters
from ray_train.model.backbone import load_backbone


def test_a_skeleton_has_the_parameters_of_the_loaded_backbone_and_no_memory(folder: Path) -> None:
    skeleton, loaded = load_skeleton(str(folder), ["language"]), load_backbone(str(folder), torch.float32)
    counts = parameters(skeleton)
    assert counts == parameters(loaded)
    assert min(counts.values()) > 0
    assert all(parameter.is_meta for parameter in skeleton.model.parameters())
    assert trained_parameters(skeleton) == counts["language"]


def test_of_a_backbone_in_a_store_only_the_small_files_are_read(s3: str, internvl: Path) -> None:
    url = f"{s3}/skeleton"
    for file in internvl.iterdir():
        is_weight = file.suffix == ".safetensors"
        storage.write_bytes(f"{url}/{file.name}", b"no weights" if is_weight else file.read_bytes())
    assert parameters(load_skeleton(url, [])) == parameters(load_skeleton(str(internvl), []))
