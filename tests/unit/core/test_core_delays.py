"""The delays of events."""

from __future__ import annotations

from labsim.clock import VIRTUAL_EPOCH_S
from labsim.entropy import Delays, Entropy


def drawn(seed: str, purpose: str, *, what: str = "worker-0", count: int = 40) -> list[float]:
    """The delays that one thing meets, when it sets off again every millisecond."""
    delays = Delays(Entropy(seed, "engine"), purpose, 0.001, 0.015)
    return [delays.of(what, VIRTUAL_EPOCH_S + number / 1000) for number in range(count)]


def test_a_delay_depends_on_seed_purpose_object_and_time_alone() -> None:
    assert drawn("1", "a") == drawn("1", "a")
    assert not set(drawn("1", "a")) & set(drawn("2", "a"))
    assert not set(drawn("1", "a")) & set(drawn("1", "b"))
    assert not set(drawn("1", "a")) & set(drawn("1", "a", what="worker-1"))


def test_what_others_send_shifts_nothing() -> None:
    delays = Delays(Entropy("1"), "a", 0.001, 0.015)
    alone = delays.of("worker-0", VIRTUAL_EPOCH_S)
    delays.of("worker-1", VIRTUAL_EPOCH_S)
    assert delays.of("worker-0", VIRTUAL_EPOCH_S) == alone


def test_delays_stay_in_their_range_and_fill_it() -> None:
    found = drawn("1", "a", count=400)
    assert all(0.001 <= delay_s < 0.015 for delay_s in found)
    assert len(set(found)) > 390
    assert min(found) < 0.0015
    assert max(found) > 0.0145


def test_which_of_two_objects_comes_first_is_a_matter_of_the_seed() -> None:
    first = 0
    for seed in range(200):
        delays = Delays(Entropy(seed), "a", 0.001, 0.015)
        first += delays.of("worker-0", VIRTUAL_EPOCH_S) < delays.of("worker-1", VIRTUAL_EPOCH_S)
    assert 70 < first < 130
