"""What holds for every test: where a machine must have something, a test that skips for want of it fails."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# How long an example takes says what else the machine does.
hypothesis.settings.register_profile("labsim", deadline=None)
hypothesis.settings.load_profile("labsim")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--labsim-update-golden",
        action="store_true",
        default=False,
        help="write the golden files of tests/e2e/golden anew instead of comparing with them",
    )
    parser.addoption(
        "--labsim-agent-provider-manager",
        default="",
        help="your build of the manager of cluster-api-provider-agent; or LABSIM_AGENT_PROVIDER_MANAGER",
    )


@pytest.fixture
def agent_provider_manager(request: pytest.FixtureRequest) -> Path:
    """The user's own build of the manager; the test is skipped, with the reason, where there is none."""
    given = request.config.getoption("--labsim-agent-provider-manager") or ""
    path = str(given) or os.environ.get("LABSIM_AGENT_PROVIDER_MANAGER", "")
    if not path:
        pytest.skip(
            "needs your own build of the agent-provider manager: --labsim-agent-provider-manager FILE, "
            "or LABSIM_AGENT_PROVIDER_MANAGER"
        )
    assert os.access(path, os.X_OK), f"{path} is no program"
    return Path(path).resolve()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    """LABSIM_MUST_NOT_SKIP lists words (kubectl, qemu, libvirt): a skip whose reason names one of them is a failure."""
    report = yield
    words = os.environ.get("LABSIM_MUST_NOT_SKIP", "").split()
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if any(word in reason.lower() for word in words):
            report.outcome = "failed"
            report.longrepr = f"must not be skipped here: {reason}"
    return report
