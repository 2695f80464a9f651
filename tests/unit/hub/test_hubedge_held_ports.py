"""A port that was handed out belongs to the lab that got it, also before anybody listens there.

Found with two labs side by side that were given one node port: a machine of the one took its Ignition from the other.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from labsim.hub.embedded.held_ports import HeldPorts

HOST = "127.0.0.1"


@pytest.fixture
def one() -> Iterator[HeldPorts]:
    made = HeldPorts([HOST])
    yield made
    made.close()


@pytest.fixture
def two() -> Iterator[HeldPorts]:
    made = HeldPorts([HOST])
    yield made
    made.close()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        found: int = probe.getsockname()[1]
    return found


def test_a_port_is_held_by_one_lab_only(one: HeldPorts, two: HeldPorts, port: int) -> None:
    assert one.hold(port)
    assert one.hold(port)
    assert not two.hold(port)


def test_a_held_port_is_given_to_whoever_listens_and_stays_taken(one: HeldPorts, two: HeldPorts, port: int) -> None:
    one.hold(port)
    bound = one.give(HOST, port)
    assert bound is not None
    with bound:
        bound.listen()
        assert one.give(HOST, port) is None
        assert not two.hold(port)


def test_ports_are_free_again_when_they_are_let_go(one: HeldPorts, two: HeldPorts, port: int) -> None:
    one.hold(port)
    one.close()
    assert two.hold(port)


def test_a_port_that_somebody_has_at_one_address_is_held_at_none(port: int) -> None:
    both = HeldPorts([HOST, "127.0.0.2"])
    with socket.socket() as theirs:
        theirs.bind(("127.0.0.2", port))
        assert not both.hold(port)
    assert both.hold(port)
    both.close()
