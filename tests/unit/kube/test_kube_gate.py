"""What a gate holds back comes later or not at all, never in another order, and never twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from labsim.clock import EventQueue
from labsim.kube.gate import Gate


class Watched:
    """A gate, and what came through it."""

    def __init__(self) -> None:
        self.queue = EventQueue(0.0)
        self.came: list[int] = []
        self.gate: Gate[int] = Gate(self.queue, self.came.append)

    def send(self, *revisions: int) -> None:
        for revision in revisions:
            self.gate.send(revision, revision)

    def until(self, when_s: float) -> None:
        while self.queue.run_next(when_s):
            pass
        self.queue.advance_to(when_s)


def test_an_open_gate_lets_everything_through_at_once() -> None:
    watched = Watched()
    watched.send(1, 2)
    assert watched.came == [1, 2]


def test_what_is_late_comes_when_its_time_has_come() -> None:
    watched = Watched()
    watched.gate.set(lambda revision: 5.0, None)
    watched.send(1)
    watched.until(3.0)
    watched.send(2)
    watched.until(5.0)
    assert watched.came == [1]
    watched.until(8.0)
    assert watched.came == [1, 2]


def test_what_would_overtake_waits_for_what_is_before_it() -> None:
    watched = Watched()
    watched.gate.set(lambda revision: 10.0 if revision == 1 else 1.0, None)
    watched.send(1, 2)
    watched.until(9.9)
    assert watched.came == []
    watched.until(10.0)
    assert watched.came == [1, 2]


def test_a_frozen_gate_lets_through_up_to_its_revision_and_the_rest_when_it_is_thawed() -> None:
    watched = Watched()
    watched.gate.set(None, 2)
    watched.send(1, 2, 3, 4)
    watched.until(1000.0)
    assert (watched.came, watched.gate.held) == ([1, 2], 2)
    watched.gate.set(None, 3)
    assert watched.came == [1, 2, 3]
    watched.gate.set(None, None)
    assert (watched.came, watched.gate.held) == ([1, 2, 3, 4], 0)


def test_without_its_delay_what_is_held_comes_at_once() -> None:
    watched = Watched()
    watched.gate.set(lambda revision: 60.0, None)
    watched.send(1)
    watched.gate.set(None, None)
    watched.send(2)
    assert watched.came == [1, 2]


def test_what_a_closed_gate_held_never_comes() -> None:
    watched = Watched()
    watched.gate.set(lambda revision: 5.0, None)
    watched.send(1)
    watched.gate.close()
    watched.until(100.0)
    assert watched.came == []


ACTS = st.lists(
    st.one_of(
        st.just(("send", 0)),
        st.tuples(st.just("pass time"), st.integers(0, 20)),
        st.tuples(st.just("delay"), st.integers(0, 9)),
        st.tuples(st.just("freeze"), st.integers(0, 30)),
        st.just(("open", 0)),
    ),
    max_size=40,
)


@given(ACTS)
def test_whatever_happens_each_comes_once_and_in_order(acts: list[tuple[str, int]]) -> None:
    watched, sent = Watched(), 0
    for act, value in acts:
        if act == "send":
            sent += 1
            watched.send(sent)
        elif act == "pass time":
            watched.until(watched.queue.now() + value)
        elif act == "delay":
            lag_s = float(value)
            watched.gate.set(lambda revision, lag_s=lag_s: lag_s * (revision % 3), None)  # type: ignore[misc]
        elif act == "freeze":
            watched.gate.set(None, value)
        else:
            watched.gate.set(None, None)
        assert watched.came == list(range(1, len(watched.came) + 1))
        assert len(watched.came) + watched.gate.held == sent
    watched.gate.set(None, None)
    assert watched.came == list(range(1, sent + 1))
