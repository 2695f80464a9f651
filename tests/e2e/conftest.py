"""Options of the end-to-end tests."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--labsim-update-golden",
        action="store_true",
        default=False,
        help="write the golden files of tests/e2e/golden anew instead of comparing with them",
    )
