"""The program on a booted machine, from its Ignition to the agent or the kubelet.

A discovery boot starts the unit `agent.service`; an installed disk fetches what its pointer Ignition names (once; a
later boot finds the result under /var/lib) and starts `kubelet.service`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from labsim.guest import ignition
from labsim.guest.agent import AgentOptions, run_agent
from labsim.guest.effects import Boot, Log, ReadFile, Sleep, Task, WriteFile, read_text
from labsim.guest.node import run_node
from labsim.guest.settings import UPSTREAM_PACE, GuestSettings
from labsim.guest.units import parse_flags, parse_service

APPLIED_PATH = "/var/lib/ignition/applied.json"
FOREVER_S = 86_400.0


def run(boot: Boot, settings: GuestSettings = UPSTREAM_PACE) -> Task[None]:
    """The whole life of one boot. Returns only where there is nothing to run (no unit that it knows)."""
    yield Log(f"started from {boot.source}")
    try:
        program = yield from _program(boot, settings)
    except ignition.IgnitionFailed as failure:
        yield Log(f"failed: {failure}; this machine needs a person", "ignition")
        while True:
            yield Sleep(FOREVER_S)
    yield from program


def _program(boot: Boot, settings: GuestSettings) -> Task[Task[None]]:
    """Apply the Ignition; what then runs. (Nobody holds the configuration any longer: it is large.)"""
    config, first_boot = yield from _configuration(boot)
    yield from ignition.write_files(config)
    yield from ignition.write_keys(config)
    if boot.source == "disk":
        return run_node(settings, first_boot=first_boot)
    agent = ignition.units(config).get("agent.service")
    if agent is None:
        return _nothing()
    return run_agent((yield from _agent_options(agent, boot)), settings)


def _nothing() -> Task[None]:
    yield Log("the Ignition has no agent.service: nothing to run")


def _configuration(boot: Boot) -> Task[tuple[ignition.Config, bool]]:
    """The rendered Ignition, and whether this is the first boot of it."""
    if boot.source != "disk":
        config = yield from ignition.render(ignition.parse(boot.ignition))
        return config, True
    pointer = hashlib.sha256(boot.ignition).hexdigest()
    try:
        applied = json.loads((yield ReadFile(APPLIED_PATH)))
    except (OSError, ValueError):
        applied = {}
    if applied.get("pointer") == pointer:
        return applied["config"], False
    config = yield from ignition.render(ignition.parse(boot.ignition))
    yield WriteFile(APPLIED_PATH, json.dumps({"pointer": pointer, "config": config}).encode(), 0o600)
    return config, True


def _agent_options(unit: Mapping[str, Any], boot: Boot) -> Task[AgentOptions]:
    service = parse_service(unit)
    flags = parse_flags(service.command[1:])
    ca_path = flags.get("cacert", "")
    ca_pem = ""
    if ca_path:
        ca_pem = yield from read_text(ca_path, "")
    return AgentOptions(
        url=flags.get("url", "").rstrip("/"),
        infra_env_id=flags.get("infra-env-id", ""),
        agent_version=flags.get("agent-version", ""),
        insecure=flags.get("insecure", "false") == "true",
        ca_pem=ca_pem,
        token=service.environment.get("PULL_SECRET_TOKEN", ""),
        media=boot.source,
    )
