"""The order of rollouts, whatever the strategy: all-negative ones, ties, and where a selection ends."""

import pytest
from support.rankings import Given, parameters, random_rollouts, ranking, usable

from bisieve.errors import UsageError
from bisieve.ranking.order import ranked, selection_limits
from bisieve.ranking.strategies import strategy_names, strategy_of
from bisieve.ranking.strategies.base import Strategy


def test_every_module_is_a_strategy_and_the_default_is_named_first() -> None:
    names = strategy_names()
    assert names[0] == "bis"
    assert {"paired", "stratified", "posterior", "difficulty", "random"} < set(names)
    assert all(isinstance(strategy_of(name), Strategy) for name in names)


def test_an_unknown_strategy_is_refused_with_the_likely_one() -> None:
    with pytest.raises(UsageError, match=r"one of bis, .* as strategy; found pared; did you mean paired\?"):
        strategy_of("pared")


@pytest.mark.parametrize("scope", ["source", "global"])
@pytest.mark.parametrize("strategy", strategy_names())
def test_a_ranking_does_not_depend_on_the_order_in_which_rollouts_come(strategy: str, scope: str) -> None:
    asked = parameters(strategy, scope=scope)
    rows = usable(random_rollouts(90, 2, sources="abc"), asked)
    once, again = ranked(rows, asked), ranked(rows.take(list(range(89, -1, -1))), asked)
    assert once.to_pylist() == again.to_pylist()
    ranks = once["rank"].to_pylist()
    sources = once["source"].to_pylist()
    assert sources == sorted(sources)
    if scope == "global":
        assert sorted(ranks) == list(range(1, 91))
    else:
        assert ranks == [1 + sources[:place].count(name) for place, name in enumerate(sources)]


@pytest.mark.parametrize("ties", ["file", "spread"])
@pytest.mark.parametrize("strategy", strategy_names())
def test_all_negative_rollouts_can_be_ranked_last(strategy: str, ties: str) -> None:
    ties = "file" if strategy_of(strategy).shuffled else ties
    rollouts = random_rollouts(120, 4)
    bad = {n for n, given in enumerate(rollouts) if not any(given.scores)}
    kept = ranking(rollouts, strategy, ties=ties)
    last = ranking(rollouts, strategy, ties=ties, all_negative="last")
    assert 3 < len(bad) < 30
    assert set(last[-len(bad) :]) == bad
    assert ranking(rollouts, strategy, ties=ties, all_negative="drop") == last
    if strategy not in ("paired", "stratified") and ties == "file":  # else a place depends on others
        assert [n for n in last if n not in bad] == [n for n in kept if n not in bad]


def test_spread_ties_give_each_question_its_turn() -> None:
    rollouts = [Given((1.0,), question) for question in "aaabbc"]
    assert ranking(rollouts, "bis", ties="spread") == [0, 3, 5, 1, 4, 2]
    assert ranking(rollouts, "stratified", ties="spread") == [0, 3, 5, 1, 4, 2]


def test_dropped_rollouts_end_a_selection_early() -> None:
    rollouts, dropped = {"a": 10, "b": 4}, {"a": 3, "b": 4}
    assert selection_limits(rollouts, "source", 0.5, dropped) == {"a": 5, "b": 0}
    assert selection_limits(rollouts, "source", 1.0, dropped) == {"a": 7, "b": 0}
    assert selection_limits(rollouts, "global", 1.0, dropped) == {"a": 7, "b": 7}
    assert selection_limits(rollouts, "source", 1.0) == rollouts
