"""How many workers are asked for."""

import pytest
from ray.train.v2.api.config import ScalingConfig

from ray_train.choices import Workers, workers


@pytest.mark.parametrize(("given", "least", "most"), [("8", 8, 8), (8, 8, 8), ("2-8", 2, 8), ("3-3", 3, 3)])
def test_a_number_stays_one_and_a_range_is_ray_trains(given: str | int, least: int, most: int) -> None:
    found = workers(given)
    assert found == Workers(least, most)
    assert workers(str(found)) == found
    scaling = ScalingConfig(num_workers=found.for_ray)
    assert (scaling.min_workers, scaling.max_workers) == (least, most)
    assert scaling.elasticity_enabled == (least < most)


def test_workers_are_counted_in_words() -> None:
    assert [workers(given).words for given in ("1", "2", "1-2")] == ["1 worker", "2 workers", "1-2 workers"]


@pytest.mark.parametrize("given", ["", "two", "-2", "2-", "2-4-8", "8-2", "1.5", "٢", True, 2.0])
def test_other_words_are_refused(given: object) -> None:
    with pytest.raises(ValueError, match="a range"):
        workers(given)  # type: ignore[arg-type]
