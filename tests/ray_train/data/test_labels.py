"""What steps are trained on, and that the loss is divided by the same number on any number of ranks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from support.small_corpus import Corpus

from bisieve.errors import TrainingError
from bisieve.index.reader import open_index
from bisieve.index.selection import read_selection
from ray_train.data.encode import make_encoder
from ray_train.data.images import ImageReader
from ray_train.data.labels import Targets, check_some_weight, targets_of
from ray_train.data.loader import RankLoader
from ray_train.data.packing import make_packer
from ray_train.data.sampler import BatchPlan, prompts_of
from ray_train.model.backbone import load_backbone
from ray_train.model.packed_attention import read_packs
from ray_train.model.prompt_format import PromptFormat
from ray_train.training.driver import train

ROWS = pa.table(
    {
        "num_steps": [2, 3, 1],
        "scores": [[0.5, 0.0], [0.25, 1.0, 0.75], [1.0]],
        "mc_correct": pa.array([[4, 0], None, [0]], pa.list_(pa.int32())),
        "mc_total": pa.array([[8, 16], None, [0]], pa.list_(pa.int32())),
    }
)
WEIGHTS = np.array([2.0, 0.5, 0.25])


def test_hard_labels_are_above_the_threshold_and_soft_ones_are_the_scores() -> None:
    assert Targets(ROWS, WEIGHTS, "hard", 0.5).of(1) == ([0.0, 1.0, 1.0], 0.5, None)
    assert Targets(ROWS, WEIGHTS, "soft", 0.5).of(1) == ([0.25, 1.0, 0.75], 0.5, None)


def test_counts_are_their_ratio_and_their_number_and_unknown_ones_are_zero() -> None:
    targets = Targets(ROWS, WEIGHTS, "beta-binomial", 0.0)
    assert targets.of(0) == ([0.5, 0.0], 2.0, [8, 16])
    assert targets.of(1) == ([0.0] * 3, 0.5, [0] * 3)
    assert targets.of(2) == ([0.0], 0.25, [0])


def test_only_steps_that_are_learned_from_have_a_share_in_what_the_loss_is_divided_by() -> None:
    assert Targets(ROWS, WEIGHTS, "hard", 0.0).mass.tolist() == [4.0, 1.5, 0.25]
    assert Targets(ROWS, WEIGHTS, "beta-binomial", 0.0).mass.tolist() == [4.0, 0.0, 0.0]


def test_where_all_that_could_be_learned_from_is_left_out_there_is_no_run() -> None:
    targets = Targets(ROWS, WEIGHTS, "beta-binomial", 0.0)
    check_some_weight(targets, (1, 2))
    with pytest.raises(TrainingError, match=r"rollouts with MC counts .*none in the selection"):
        check_some_weight(targets, (0,))


def test_what_is_held_out_is_not_learned_from_and_must_have_something_to_validate_on() -> None:
    targets = Targets(ROWS, WEIGHTS, "beta-binomial", 0.0)
    with pytest.raises(TrainingError, match=r"rollouts with MC counts .*none in the selection"):
        check_some_weight(targets, (), (0,))
    with pytest.raises(TrainingError, match=r"to validate on.*--validation-fraction"):
        check_some_weight(targets, (), (1, 2))


def test_an_index_without_counts_is_refused_before_anything_starts(
    corpus: Corpus, settings: Callable[..., Any]
) -> None:
    config = settings(objective="beta-binomial", image_root="file:///nowhere")
    with pytest.raises(TrainingError, match=r"\(mc_correct, mc_total\).*none.*--objective soft"):
        train(config)


@pytest.mark.parametrize("packed", [True, False], ids=["packs", "rows"])
def test_the_weights_of_all_ranks_add_up_to_what_the_loss_is_divided_by(
    packed: bool, counted_corpus: Corpus, internvl: Any, settings: Callable[..., Any]
) -> None:
    selection = read_selection(open_index(counted_corpus.index), 1.0)
    targets = targets_of(selection, settings(objective="beta-binomial", rollout_weights="bis"))
    plan = BatchPlan(
        selection.fingerprint, selection.rows.num_rows, (), 0, 1, 12, prompts_of(selection), False
    )
    backbone = load_backbone(str(internvl), torch.float32)
    slot = backbone.family.image_slot(backbone.processor.tokenizer)
    encoder = make_encoder(backbone, PromptFormat(slot, backbone.family.image_options(1)), 4096)
    if packed:
        read_packs(backbone.model)
    packer = make_packer(backbone, encoder, 300) if packed else None
    expected = [float(targets.mass[plan.batch(step)].sum()) for step in range(plan.total_steps)]
    assert len(set(expected)) > 1
    for world_size in (1, 2, 4):
        found = [0.0] * plan.total_steps
        for rank in range(world_size):
            feed = RankLoader(
                selection,
                plan,
                encoder,
                packer,
                ImageReader(counted_corpus.images),
                targets,
                2,
                rank,
                world_size,
            )
            step = 0
            for batch in feed.batches(0):
                found[step] += float(batch.weights.sum())
                assert not batch.weights[batch.totals == 0].any()
                step += batch.last
            assert step == plan.total_steps
        assert found == pytest.approx(expected, rel=1e-6)
