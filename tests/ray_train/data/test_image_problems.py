"""Counting the broken images of a run; the ranks' exchange is mocked, since one process stands for all."""

import pickle

import pytest

from bisieve.errors import ImageError
from ray_train.data.image_problems import newly_broken

RANKS = [{"b.png": "truncated", "a.png": "no image"}, {}, {"b.png": "truncated", "c.png": "too large"}]


@pytest.fixture(autouse=True)
def ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_train.data.image_problems.from_all_ranks", lambda found: RANKS)


def test_each_image_counts_once_over_all_ranks_and_steps() -> None:
    assert list(newly_broken(RANKS[0], {}, 3)) == ["a.png", "b.png", "c.png"]
    assert newly_broken(RANKS[0], {"b.png": "truncated"}, 3) == {"a.png": "no image", "c.png": "too large"}


def test_known_images_alone_end_no_run_even_where_fewer_are_tolerated_now() -> None:
    known = dict.fromkeys(("a.png", "b.png", "c.png"), "no image")
    assert newly_broken(RANKS[0], known, 1) == {}


@pytest.mark.parametrize("known", [{}, {"z.png": "truncated"}], ids=["of a step", "with earlier ones"])
def test_more_than_are_tolerated_are_all_named(known: dict[str, str]) -> None:
    with pytest.raises(ImageError) as caught:
        newly_broken(RANKS[1], known, 2 + len(known))
    error = pickle.loads(pickle.dumps(caught.value))
    for name in (*known, "a.png (no image)", "b.png (truncated)", "c.png (too large)"):
        assert name in str(error)
    assert f"expected at most {2 + len(known)} broken images; found {3 + len(known)}: " in str(error)
    assert "raise --skip-broken-images" in str(error)
