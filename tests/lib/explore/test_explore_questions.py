"""Work in the background waits while a request is answered, but not for ever."""

from threading import Thread

from bisieve.explore.questions import Turns


def test_the_background_waits_until_no_request_is_answered() -> None:
    turns, done = Turns(), list[str]()
    background = Thread(target=lambda: (turns.wait(60), done.append("background")))
    with turns.request(), turns.request():
        background.start()
        done.append("request")
    background.join(60)
    assert done == ["request", "background"]


def test_it_goes_on_if_somebody_always_asks() -> None:
    turns = Turns()
    with turns.request():
        turns.wait(0.01)


def test_a_request_that_fails_is_over() -> None:
    turns = Turns()
    try:
        with turns.request():
            raise ValueError
    except ValueError:
        pass
    turns.wait(60)
