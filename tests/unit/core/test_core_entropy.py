import uuid

from hypothesis import given
from hypothesis import strategies as st

from labsim.entropy import NAME_SUFFIX_ALPHABET, Entropy


def test_a_value_depends_on_seed_owner_and_purpose_alone() -> None:
    assert Entropy(1).child("a").bytes("x") == Entropy("1").child("a").bytes("x")
    values = {
        Entropy(1).child("a").bytes("x"),
        Entropy(2).child("a").bytes("x"),
        Entropy(1).child("b").bytes("x"),
        Entropy(1).child("a").bytes("y"),
    }
    assert len(values) == 4


def test_asking_for_other_values_shifts_nothing() -> None:
    calm, busy = Entropy(7), Entropy(7)
    for index in range(100):
        busy.uuid(f"other/{index}")
    assert calm.uuid("mine") == busy.uuid("mine")


@given(st.text(max_size=20), st.integers(-1000, 1000), st.integers(0, 1000))
def test_values_lie_in_their_range(purpose: str, low: int, span: int) -> None:
    entropy = Entropy("s")
    assert low <= entropy.integer(purpose, low, low + span) <= low + span
    assert 2.0 <= entropy.uniform(purpose, 2.0, 3.0) < 3.0
    assert uuid.UUID(entropy.uuid(purpose)).version == 4
    assert set(entropy.text(purpose)) <= set(NAME_SUFFIX_ALPHABET)
    assert len(entropy.bytes(purpose, 100)) == 100
