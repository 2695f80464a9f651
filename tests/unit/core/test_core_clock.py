from hypothesis import given
from hypothesis import strategies as st

from labsim.clock import VIRTUAL_EPOCH_S, EventQueue


def test_calls_come_in_the_order_of_their_time_and_then_of_their_asking() -> None:
    queue, heard = EventQueue(), []
    queue.call_later(5, lambda: heard.append("late"))
    queue.call_later(1, lambda: heard.append("first"))
    queue.call_later(1, lambda: heard.append("second"))
    while queue.run_next(VIRTUAL_EPOCH_S + 100):
        pass
    assert heard == ["first", "second", "late"]
    assert queue.now() == VIRTUAL_EPOCH_S + 5


def test_a_cancelled_call_never_comes() -> None:
    queue, heard = EventQueue(), []
    queue.call_later(1, lambda: heard.append("kept"))
    queue.call_later(1, lambda: heard.append("cancelled")).cancel()
    while queue.run_next(VIRTUAL_EPOCH_S + 100):
        pass
    assert heard == ["kept"]


def test_time_never_passes_a_due_call() -> None:
    queue = EventQueue()
    queue.call_later(10, lambda: None)
    queue.advance_to(VIRTUAL_EPOCH_S + 50)
    assert queue.now() == VIRTUAL_EPOCH_S + 10
    assert not queue.run_next(VIRTUAL_EPOCH_S + 9)


@given(st.lists(st.floats(min_value=0, max_value=1e6), max_size=50))
def test_the_clock_never_goes_back(delays: list[float]) -> None:
    queue, seen = EventQueue(), []
    for delay in delays:
        queue.call_later(delay, lambda: seen.append(queue.now()))
    while queue.run_next(float("inf")):
        pass
    assert seen == sorted(seen)
    assert len(seen) == len(delays)


def test_what_is_wanted_soon_comes_before_anything_else_that_is_due() -> None:
    queue, heard = EventQueue(), []

    def first() -> None:
        queue.call_soon(lambda: heard.append("soon"))
        heard.append("first")

    queue.call_later(1, first)
    queue.post_at(VIRTUAL_EPOCH_S + 1, heard.append, "second")
    assert queue.run_next(VIRTUAL_EPOCH_S + 1)
    assert heard == ["first", "soon"]
    assert queue.run_next(VIRTUAL_EPOCH_S + 1)
    assert heard == ["first", "soon", "second"]


def test_what_is_wanted_soon_needs_no_other_call() -> None:
    queue, heard = EventQueue(), []
    queue.call_soon(lambda: heard.append("soon"))
    assert queue.next_due_s() == VIRTUAL_EPOCH_S
    assert queue.run_next(VIRTUAL_EPOCH_S)
    assert heard == ["soon"]
    assert queue.next_due_s() is None
