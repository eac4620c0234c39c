"""Pictures show real handwritten digits, and the benchmark shows others than the shards."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits as sklearn_digits

from bisieve.synthetic.corpus_config import CorpusConfig
from bisieve.synthetic.corpus_sources import make_sources
from bisieve.synthetic.pictures import (
    BAR,
    INK_STEP,
    LINE,
    PAPER,
    SIDE,
    Digits,
    Pictures,
    digit_boxes,
    draw,
    encode_png,
    held_out_digits,
    load_digits,
    make_pictures,
    picture_path,
    training_digits,
)
from bisieve.synthetic.tasks import TASKS, Task


def crops(pictures: Pictures, number: int, canvas: np.ndarray) -> list[np.ndarray]:
    """The digits of a picture at the size at which they were written, 0 = paper … 16 = ink."""
    scale = pictures.layout.scale
    boxes = digit_boxes(pictures.layout, pictures.shifts[number])
    enlarged = [(PAPER - canvas[box].astype(int)) for box in boxes]
    for crop in enlarged:
        assert np.array_equal(crop, crop[::scale, ::scale].repeat(scale, 0).repeat(scale, 1))
    return [crop[::scale, ::scale] // INK_STEP for crop in enlarged]


def test_the_training_and_the_held_out_digits_are_all_of_them_and_share_none() -> None:
    training, held_out = training_digits().index.tolist(), held_out_digits().index.tolist()
    assert not set(training) & set(held_out)
    assert sorted(training + held_out) == list(range(1797))


def test_both_sets_hold_every_digit_often() -> None:
    for digits in (training_digits(), held_out_digits()):
        assert np.bincount(digits.labels, minlength=10).min() > 20


def test_a_digit_is_never_its_own_lookalike() -> None:
    digits = load_digits()
    assert (digits.lookalikes != digits.labels).all()


def test_some_digits_are_much_more_ambiguous_than_others_but_the_mean_is_one() -> None:
    ambiguity = load_digits().ambiguity
    assert ambiguity.mean() == pytest.approx(1, abs=1e-3)
    assert ambiguity.max() > 5 * ambiguity.min()


def test_every_digit_in_a_written_picture_is_one_of_scikit_learns(
    small_corpus: Path, small_config: CorpusConfig
) -> None:
    written = sklearn_digits().images.astype(int)
    for source in make_sources(small_config):
        for number in range(0, len(source.pictures), 7):
            canvas = np.asarray(Image.open(small_corpus / picture_path(source.task.name, number)))
            shown = source.pictures.digits.index[source.pictures.cells[number]]
            for crop, index in zip(crops(source.pictures, number, canvas), shown, strict=True):
                assert np.array_equal(crop, written[index])


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_digits_stay_inside_the_picture_and_apart_from_each_other(task: Task) -> None:
    pictures = make_pictures(task.layout, training_digits(), 200, np.random.default_rng(0))
    for shifts in pictures.shifts:
        touched = np.zeros((SIDE, SIDE), int)
        for rows, columns in digit_boxes(task.layout, shifts):
            assert 0 <= rows.start < rows.stop <= SIDE
            assert 0 <= columns.start < columns.stop <= SIDE
            touched[rows, columns] += 1
        assert touched.max() == 1


def test_a_bar_is_as_high_as_its_digit_says() -> None:
    chart = next(task for task in TASKS if task.layout.name == "chart").layout
    values = np.array([0, 9, 4], np.int16)
    canvas = draw(chart, np.zeros((3, 8, 8), np.uint8), values, np.zeros((3, 2), int))
    heights = (canvas == BAR).sum(axis=0)[[8, 27, 46]]
    assert heights.tolist() == [3 * value + 1 for value in values]


def test_the_lines_of_a_table_are_not_mistaken_for_ink() -> None:
    table = next(task for task in TASKS if task.layout.name == "table").layout
    canvas = draw(table, np.zeros((4, 8, 8), np.uint8), np.zeros(4, np.int16), np.zeros((4, 2), int))
    assert set(np.unique(canvas)) <= {PAPER, LINE}


def test_a_png_holds_exactly_the_picture_that_was_drawn() -> None:
    digits: Digits = held_out_digits()
    layout = TASKS[0].layout
    canvas = draw(layout, digits.pixels[:4], digits.labels[:4], np.ones((4, 2), int))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(canvas)))), canvas)
