"""Parameters without weights."""

from pathlib import Path

import torch

from bisieve.io import storage
from ray_train.model.backbone import load_backbone
from ray_train.model.skeleton import load_skeleton, parameters, trained_parameters


def test_a_skeleton_has_the_parameters_of_the_loaded_backbone_and_no_memory(folder: Path) -> None:
    skeleton, loaded = load_skeleton(str(folder), ["language"]), load_backbone(str(folder), torch.float32)
    counts = parameters(skeleton)
    assert counts == parameters(loaded)
    assert min(counts.values()) > 0
    assert all(parameter.is_meta for parameter in skeleton.model.parameters())
    assert trained_parameters(skeleton) == counts["language"]


def test_of_weights_in_a_store_the_header_alone_is_read(s3: str, internvl: Path) -> None:
    url = f"{s3}/skeleton"
    for file in internvl.iterdir():
        data = file.read_bytes()
        if file.suffix == ".safetensors":
            header = 8 + int.from_bytes(data[:8], "little")
            data = data[:header] + bytes(len(data) - header)
        storage.write_bytes(f"{url}/{file.name}", data)
    assert parameters(load_skeleton(url, [])) == parameters(load_skeleton(str(internvl), []))
