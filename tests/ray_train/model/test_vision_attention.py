"""Attention of a vision encoder to many images at once, against transformers' own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.backbones import build_qwen, qwen_parts
from torch.nn import functional
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from bisieve.errors import TrainingError
from ray_train.config import TrainConfig
from ray_train.evaluation.scorer import Scorer
from ray_train.model.vision_attention import NAME, join_runs, runs_attention, runs_of
from ray_train.training.worker import trainable_backbone

# Patches in height and width of 11 images, with whole windows of 8 x 8 patches and parts of such
HEIGHTS = [16, 8, 20, 12, 16, 6, 4, 28, 18, 8, 14]
WIDTHS = [24, 8, 28, 30, 24, 10, 4, 20, 18, 40, 22]
SIZES = list(zip(HEIGHTS, WIDTHS, strict=True))
DEPTH = 4
FULL = [3]  # layers of Qwen2.5-VL that see a whole image
MODELS = {
    "qwen2.5": (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        14,
        {"fullatt_block_indexes": FULL, "window_size": 112},
    ),
    "qwen3": (
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        16,
        {"deepstack_visual_indexes": [0], "num_position_embeddings": 64},
    ),
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each call of the attention kernel had, from here on."""
    found: list[int] = []
    attention = functional.scaled_dot_product_attention

    def counted(query: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        found.append(query.shape[0])
        return attention(query, *rest, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    return found


@pytest.fixture(params=MODELS)
def vision(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A model of random weights, the patches of 11 images and the sizes of these."""
    config, model, edge, sizes = MODELS[request.param]
    parts = qwen_parts(tmp_path, patch_size=edge)
    parts["text_config"] |= {"head_dim": 24} if edge == 16 else {}
    parts["vision_config"] |= {"depth": DEPTH, "patch_size": edge, **sizes}
    torch.manual_seed(0)
    built = model(config(**parts)).eval()
    grids = torch.tensor([(1, height, width) for height, width in SIZES])
    return built, torch.randn(int(grids.prod(1).sum()), 3 * 2 * edge**2), grids


def _read(model: Any, patches: torch.Tensor, grids: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """What the vision encoder makes of ``patches``, and the gradients of its weights and of these."""
    model.zero_grad()
    patches = patches.clone().requires_grad_()
    found = model.model.visual(patches, grids)
    output = found.pooler_output
    output.square().mean().backward()
    own = [weight.grad for weight in model.model.visual.parameters() if weight.grad is not None]
    return output.detach(), [patches.grad, *own]  # type: ignore[list-item]


def test_outputs_and_gradients_are_those_of_attention_to_one_run_at_a_time(
    vision: tuple[Any, torch.Tensor, torch.Tensor],
) -> None:
    expected, expected_gradients = _read(*vision)
    join_runs(vision[0])
    assert vision[0].config.vision_config._attn_implementation == NAME
    output, gradients = _read(*vision)
    assert expected.std() > 1e-3
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-6)
    assert len(gradients) == len(expected_gradients) > 4 * DEPTH
    for found, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


def test_eleven_images_take_one_call_for_each_size_of_run_and_one_look_at_the_sizes(
    vision: tuple[Any, torch.Tensor, torch.Tensor], calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, patches, grids = vision
    looked: list[int] = []

    def counted(ends: torch.Tensor) -> Any:
        looked.append(len(ends))
        return runs_of(ends)

    monkeypatch.setattr("ray_train.model.vision_attention.runs_of", counted)
    model.model.visual(patches, grids)
    before, images = len(calls), len({height * width for height, width in SIZES})
    calls.clear()
    join_runs(model)
    model.model.visual(patches, grids)
    if hasattr(model.config.vision_config, "window_size"):
        windows = [_windows(height, width) for height, width in SIZES]
        assert before == sum(map(len, windows)) * (DEPTH - 1) + len(SIZES)
        sizes = len({size for each in windows for size in each})
        assert len(calls) == sizes * (DEPTH - 1) + images
        assert sorted(looked) == [len(SIZES) + 1, sum(map(len, windows)) + 1]
    else:
        assert before == len(SIZES) * DEPTH
        assert len(calls) == images * DEPTH
        assert looked == [len(SIZES) + 1]


def test_eleven_images_of_the_papers_size_take_32_calls_in_place_of_4972(
    calls: list[int], tmp_path: Path
) -> None:
    parts = qwen_parts(tmp_path)
    parts["vision_config"] |= {"depth": 32, "fullatt_block_indexes": [7, 15, 23, 31], "window_size": 112}
    model = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**parts)).eval()
    grids = torch.tensor([(1, 32, 32)] * 11)  # 448 x 448 pixels each
    patches = torch.randn(11 * 32 * 32, 3 * 2 * 14**2)
    found = []
    with torch.no_grad():
        for join in (lambda model: None, join_runs):
            join(model)
            found.append(model.model.visual(patches, grids).pooler_output)
            if len(found) == 1:
                assert len(calls) == 4972
                calls.clear()
    assert calls == ([11 * 16] * 7 + [11]) * 4
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-6)


def test_the_kernel_for_runs_of_any_sizes_gets_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show arguments and layout: a mock takes the place of the kernel, which needs a GPU."""

    def kernel(*tensors: Any, scale: float) -> torch.Tensor:
        query, key, value, ends, same, longest, too = tensors
        assert (ends.dtype, same is ends, longest, too) == (torch.int32, True, 3, 3)
        assert all(each.is_contiguous() for each in (query, key, value))
        parts = [each.transpose(0, 1).tensor_split(ends[1:-1].long(), 1) for each in (query, key, value)]
        found = [
            functional.scaled_dot_product_attention(*each, scale=scale) for each in zip(*parts, strict=True)
        ]
        return torch.cat(found, 1).transpose(0, 1)

    parts, ends = torch.randn(3, 1, 2, 6, 8), torch.tensor([0, 1, 4, 6])
    options: Any = {"scaling": 0.3, "cu_seq_lens_q": ends}
    expected, _ = runs_attention(None, *parts, None, **options)
    monkeypatch.setattr("ray_train.model.vision_attention._has_kernel", lambda *of: True)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    found, _ = runs_attention(None, *parts, None, **options)
    assert found.shape == (1, 6, 2, 8)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def _windows(height: int, width: int) -> list[int]:
    """Patches in each window of an image."""
    rows, columns = ([min(8, edge - start) for start in range(0, edge, 8)] for edge in (height, width))
    return [row * column for row in rows for column in columns]


def test_training_and_evaluation_use_it(settings: Callable[..., TrainConfig], tmp_path: Path) -> None:
    folder = tmp_path / "backbone"
    build_qwen(folder)
    trained = trainable_backbone(settings(backbone=str(folder), pack_tokens=64)).model
    assert trained.config.vision_config._attn_implementation == NAME
    assert trained.config.text_config._attn_implementation == "shared_prompt"
    scorer = Scorer(str(folder), 64, 1)
    assert scorer._model.backbone.config.vision_config._attn_implementation == NAME
    trained.save_pretrained(tmp_path / "saved")
    assert NAME not in (tmp_path / "saved" / "config.json").read_text()


def test_runs_without_patches_and_runs_of_one_size_are_read() -> None:
    assert runs_of(torch.tensor([0, 4, 4, 8], dtype=torch.int32)).groups == [(2, 4)]
    runs = runs_of(torch.tensor([0, 1, 4, 5]))
    assert (runs.longest, runs.groups) == (3, [(2, 1), (1, 3)])
    assert runs.order is not None
    assert runs.order.tolist() == [0, 4, 1, 2, 3]


def test_a_mask_is_refused() -> None:
    part = torch.ones(1, 1, 2, 4)
    with pytest.raises(TrainingError, match="without an attention mask"):
        runs_attention(
            None, part, part, part, torch.ones(2, 2), scaling=1.0, cu_seq_lens_q=torch.tensor([0, 2])
        )  # type: ignore[arg-type]
