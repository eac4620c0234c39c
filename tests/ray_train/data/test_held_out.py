"""What is held out, and that nothing of it is trained on."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from support.small_corpus import Corpus

from bisieve.errors import TrainingError
from bisieve.index.reader import open_index
from bisieve.index.selection import Selection, read_selection
from ray_train.data.sampler import BatchPlan, prompts_of, validation_split
from ray_train.training.validation import validation_plan


@pytest.fixture
def selection(corpus: Corpus) -> Selection:
    return read_selection(open_index(corpus.index), 1.0)


def questions(selection: Selection, rows: tuple[int, ...]) -> set[str]:
    return set(selection.rows["question_id"].take(list(rows)).to_pylist())


def plan_of(selection: Selection, held_out: tuple[int, ...], left_out: tuple[int, ...] = ()) -> BatchPlan:
    return BatchPlan(
        selection.fingerprint,
        selection.rows.num_rows,
        left_out,
        3,
        2,
        6,
        prompts_of(selection),
        True,
        held_out,
    )


def test_a_prompt_is_held_out_with_all_its_rollouts_or_not_at_all(selection: Selection) -> None:
    held = validation_split(selection, 0.3, 0, ())
    rest = tuple(sorted(set(range(selection.rows.num_rows)) - set(held)))
    assert held
    assert not questions(selection, held) & questions(selection, rest)


def test_the_seed_and_the_question_alone_decide(selection: Selection, corpus: Corpus) -> None:
    part = read_selection(open_index(corpus.index), 0.5)
    held = questions(selection, validation_split(selection, 0.3, 0, ()))
    there = questions(part, tuple(range(part.rows.num_rows)))
    assert questions(part, validation_split(part, 0.3, 0, ())) == held & there
    assert questions(selection, validation_split(selection, 0.3, 1, ())) != held
    assert validation_split(selection, 0.0, 0, ()) == ()


def test_a_larger_fraction_holds_out_more_of_the_same(selection: Selection) -> None:
    some, more = (set(validation_split(selection, fraction, 0, ())) for fraction in (0.2, 0.6))
    assert some < more


def test_nothing_held_out_or_nothing_left_is_refused(selection: Selection) -> None:
    for fraction in (1e-9, 1 - 1e-9):
        with pytest.raises(TrainingError, match="--validation-fraction"):
            validation_split(selection, fraction, 0, ())


def test_what_is_held_out_is_in_no_batch_and_validated_once_on_any_number_of_ranks(
    selection: Selection,
) -> None:
    missing = (2, 3)
    held = validation_split(selection, 0.3, 0, missing)
    assert not set(held) & set(missing)
    plan = plan_of(selection, held, missing)
    trained = np.concatenate([plan.batch(step) for step in range(plan.total_steps)])
    assert set(trained.tolist()) == set(range(plan.num_rows)) - set(held) - set(missing)
    assert len(trained) == 2 * plan.rows_per_epoch
    validation = validation_plan(plan)
    for ranks in (1, 2, 5):
        shares = [
            validation.rows_for_rank(step, rank, ranks).tolist()
            for step in range(validation.total_steps)
            for rank in range(ranks)
        ]
        assert sorted(chain.from_iterable(shares)) == list(held)


def test_another_part_held_out_is_another_order(selection: Selection) -> None:
    plan = plan_of(selection, validation_split(selection, 0.3, 0, ()))
    assert plan.fingerprint != replace(plan, held_out=()).fingerprint
