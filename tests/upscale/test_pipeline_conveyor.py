"""What passes between threads: order, bounds, and the end of either side."""

import threading
import time

import pytest

from d2csr.upscale.pipeline import Conveyor, LeftAloneError, prefetch


def test_all_pieces_arrive_in_order_and_few_wait():
    conveyor = Conveyor[int](places=2)
    made, most = 0, 0

    def fill() -> None:
        nonlocal made
        with conveyor.filling():
            for piece in range(50):
                conveyor.put(piece)
                made += 1

    thread = threading.Thread(target=fill)
    thread.start()
    got = []
    with conveyor.emptying() as pieces:
        for piece in pieces:
            got.append(piece)
            time.sleep(0.001)
            most = max(most, made - len(got))
    thread.join()
    assert got == list(range(50))
    assert most <= 3  # two on the conveyor, one in the taker's hands


def test_the_giver_learns_that_the_taker_gave_up():
    conveyor = Conveyor[int](places=1)
    with pytest.raises(ZeroDivisionError), conveyor.emptying():
        raise ZeroDivisionError
    with pytest.raises(LeftAloneError):
        conveyor.put(1)


def test_the_taker_learns_that_the_giver_failed():
    conveyor = Conveyor[int](places=5)
    conveyor.put(1)
    with pytest.raises(ZeroDivisionError), conveyor.filling():
        raise ZeroDivisionError
    with conveyor.emptying() as pieces, pytest.raises(LeftAloneError):
        next(pieces)


def test_work_ahead_keeps_order_and_holds_no_more_than_allowed():
    """Each result weighs 4 of 10: the one in hand and one more, or a heavy one alone."""
    weights = {item: 12 if item == 3 else 4 for item in range(8)}
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        return item

    ended = []
    for item in prefetch(range(8), work, cost=weights.__getitem__, limit=10):
        time.sleep(0.01)
        held = [each for each in begun if each not in ended]
        assert sum(weights[each] for each in held) <= max(10, weights[item])
        ended.append(item)
    assert ended == list(range(8))


def test_work_ahead_raises_where_the_result_would_be():
    results = prefetch([1, 0, 2], lambda item: 1 // item, cost=lambda _: 1, limit=100)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
