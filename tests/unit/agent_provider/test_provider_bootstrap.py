"""Reading the user-data Secret."""

from __future__ import annotations

import orjson
import pytest
from capi_world import ignition

from labsim.controllers.agent_provider.bootstrap import read_ignition
from labsim.controllers.runtime.effects import ReconcileError


def pointer(*sources: object) -> bytes:
    return orjson.dumps({"ignition": {"version": "3.2.0", "config": {"merge": list(sources)}}})


def test_pool_token_and_headers_are_read() -> None:
    pool, token, headers = read_ignition(ignition("secret").encode())
    assert pool == "ignition"
    assert token == "secret"
    assert headers == {"NodePool": "clusters/example", "TargetConfigVersionHash": "abc"}


@pytest.mark.parametrize("sources", [(), ({"source": "a"}, {"source": "b"})])
def test_exactly_one_source_is_expected(sources: tuple[object, ...]) -> None:
    with pytest.raises(ReconcileError, match="did not find one ignition source as expected"):
        read_ignition(pointer(*sources))


def test_the_token_needs_its_prefix() -> None:
    header = {"name": "Authorization", "value": "Basic x"}
    with pytest.raises(ReconcileError, match="did not find expected prefix for bearer token"):
        read_ignition(pointer({"source": "https://x/ignition", "httpHeaders": [header]}))


def test_text_that_is_no_json_is_an_error_to_be_tried_again() -> None:
    with pytest.raises(ReconcileError):
        read_ignition(b"{")
