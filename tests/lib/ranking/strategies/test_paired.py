"""Mixed rollouts by BIS, each with an all-positive one of its question, else of its source and length."""

from collections import defaultdict
from itertools import pairwise

import pytest
from support.rankings import Given, random_rollouts, ranking

from bisieve.scoring import balanced_information_score


def expected(rollouts: list[Given], scope: str) -> list[int]:
    """The ranking of all rollouts as one source or scope, written down plainly."""

    def kind(number: int) -> str:
        right = [score > 0 for score in rollouts[number].scores]
        return "good" if all(right) else "mixed" if any(right) else "bad"

    score = [balanced_information_score(given.scores) for given in rollouts]
    order = sorted(range(len(rollouts)), key=lambda n: (-score[n], rollouts[n].source, n))
    mixed = [n for n in order if kind(n) == "mixed"]
    partner: dict[int, int] = {}
    for group in (
        lambda n: (rollouts[n].question, "" if scope == "global" else rollouts[n].source),
        lambda n: (rollouts[n].source, len(rollouts[n].scores)),
    ):
        free = defaultdict(list)
        for n in order:
            if kind(n) == "good" and n not in partner.values():
                free[group(n)].append(n)
        for n in mixed:
            if n not in partner and free[group(n)]:
                partner[n] = free[group(n)].pop(0)
    pairs = [n for one in mixed for n in (one, partner.get(one)) if n is not None]
    return [*pairs, *(n for n in order if n not in set(pairs))]


@pytest.mark.parametrize("seed", range(4))
def test_pairs_come_first_and_then_the_others_by_bis(seed: int) -> None:
    rollouts = random_rollouts(80, seed)
    assert ranking(rollouts, "paired") == expected(rollouts, "source")


def test_each_source_has_its_own_pairs() -> None:
    rollouts = random_rollouts(120, 5, sources="ab")
    of_source = {name: [n for n, one in enumerate(rollouts) if one.source == name] for name in "ab"}
    wanted = []
    for numbers in of_source.values():
        wanted += [numbers[n] for n in expected([rollouts[n] for n in numbers], "source")]
    assert ranking(rollouts, "paired") == wanted


def test_over_all_sources_a_question_has_pairs_across_them() -> None:
    rollouts = random_rollouts(120, 6, sources="ab")
    place = {n: rank for rank, n in enumerate(expected(rollouts, "global"))}
    wanted = sorted(range(120), key=lambda n: (rollouts[n].source, place[n]))
    assert ranking(rollouts, "paired", scope="global") == wanted


def test_a_share_of_the_mixed_rollouts_gets_a_partner() -> None:
    mixed = [Given((1.0, 0.0), f"q{n}") for n in range(200)]
    rollouts = [*mixed, *(Given((1.0, 1.0), f"q{n}") for n in range(200))]

    def partners(share: float, seed: int = 0) -> set[int]:
        order = ranking(rollouts, "paired", pair_share=share, seed=seed)
        head = order[: order.index(max(set(order) & set(range(200)), key=order.index)) + 2]
        return {after for one, after in pairwise(head) if after == one + 200}

    assert len(partners(1.0)) == 200
    assert partners(0.0) <= {399}  # the first of the others follows the last mixed one
    some = partners(0.3)
    assert 35 < len(some) < 90
    assert some - {399} < partners(0.6)  # a larger share adds pairs
    assert partners(0.3, seed=1) != some
