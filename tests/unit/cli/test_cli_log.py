"""Nothing secret stands in the log of a command."""

from __future__ import annotations

import logging

import pytest

from labsim.cli.log import log_to_stderr
from labsim.history import History


def test_tokens_and_what_a_lab_hides_are_replaced_by_value(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    history = History(lambda: 0.0)
    history.hide(["administrators-token"])
    log_to_stderr()
    logging.getLogger("edge").error("/byapikey/eyJhbGc.eyJzdWI.c2ln/4.18 and administrators-token failed")
    try:
        raise ValueError("Bearer administrators-token \ud800")
    except ValueError:
        logging.getLogger("edge").exception("a fault")
    told = capsys.readouterr().err
    assert told.count("<secret ") == 4
    assert "ValueError: Bearer <secret " in told
    assert "administrators-token" not in told
    assert "eyJ" not in told
