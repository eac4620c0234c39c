"""BIS within strata of step count and first-error position: each gives the same share."""

from collections import Counter

import pytest
from support.rankings import Given, random_rollouts, ranking

from bisieve.scoring import balanced_information_score

WITHOUT = 0


def stratum(given: Given, threshold: float = 0.0) -> tuple[str, int, int]:
    wrong = [place for place, score in enumerate(given.scores, 1) if score <= threshold]
    return given.source, len(given.scores), min(wrong, default=WITHOUT)


@pytest.mark.parametrize("threshold", [0.0, 0.25])
def test_the_key_is_the_share_of_the_stratum_that_is_better(threshold: float) -> None:
    rollouts = random_rollouts(150, 1, sources="ab")
    order = sorted(
        range(150), key=lambda n: (-balanced_information_score(rollouts[n].scores, 0.05, threshold), n)
    )
    size, rank, key = Counter(stratum(one, threshold) for one in rollouts), Counter[object](), {}
    for n in order:
        mine = stratum(rollouts[n], threshold)
        rank[mine] += 1
        key[n] = (rank[mine] - 0.5) / size[mine]
    wanted = sorted(range(150), key=lambda n: (rollouts[n].source, key[n], n))
    assert ranking(rollouts, "stratified", threshold=threshold) == wanted


def test_a_selection_has_the_strata_of_the_corpus() -> None:
    rollouts = [Given(scores) for scores in ((1.0, 0.0), (1.0, 1.0), (0.5, 0.0, 0.0)) for _ in range(40)]
    best = ranking(rollouts, "stratified")[:30]
    assert Counter(stratum(rollouts[n]) for n in best) == {stratum(one): 10 for one in rollouts}


def test_rollouts_that_are_ranked_last_are_a_stratum_of_their_own() -> None:
    recovered = [Given((0.0, 0.5))] * 4  # the first error is at step 1, as in an all-negative rollout
    rollouts = [Given((0.0, 0.0))] * 4 + recovered + [Given((1.0, 1.0))] * 4
    order = ranking(rollouts, "stratified", all_negative="last")
    assert order == [4, 8, 5, 9, 6, 10, 7, 11, 0, 1, 2, 3]
