"""The discovery agent: registers the host, then runs step runners one after the other.

Source: host-lifecycle 3.3 and 3.4.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from labsim.guest import json_text
from labsim.guest.effects import ConnectionFailed, HttpAnswer, Log, Sleep, Task
from labsim.guest.host_id import read_host_id
from labsim.guest.service import ServiceAccess, ServiceClient
from labsim.guest.settings import GuestSettings
from labsim.guest.step_runner import StepRunner
from labsim.guest.steps.context import StepContext

BLOCKING_STATUSES = (401, 403, 404, 409)
FOREVER_S = 86_400.0


@dataclasses.dataclass(frozen=True, slots=True)
class AgentOptions:
    """The arguments of `agent`, as agent.service gives them; `media` is Boot.source."""

    url: str
    infra_env_id: str
    agent_version: str
    insecure: bool = False
    ca_pem: str = ""
    token: str = ""
    media: str = "discovery-iso"


def run_agent(options: AgentOptions, settings: GuestSettings) -> Task[None]:
    """Register, run the step runner, and again. Never returns."""
    host_id: str = yield from read_host_id()
    access = ServiceAccess(options.url, options.token, options.agent_version, options.ca_pem, options.insecure)
    client = ServiceClient(access)
    context = StepContext(settings=settings, host_id=host_id, infra_env_id=options.infra_env_id, media=options.media)
    yield Log(f"host id is {host_id}", "agent")
    while True:
        registration = yield from _register(client, options, host_id, settings)
        runner_access = dataclasses.replace(access, agent_version=_runner_version(registration, options))
        exit_code: int = yield from StepRunner(runner_access, context).run()
        if exit_code != 0:
            delay_s = float(_runner_command(registration).get("retry_seconds") or settings.runner_crash_delay_s)
            yield Log(f"next step runner exited with code {exit_code}; registering again in {delay_s:.0f} s", "agent")
            yield Sleep(delay_s)


def _register(
    client: ServiceClient, options: AgentOptions, host_id: str, settings: GuestSettings
) -> Task[dict[str, Any]]:
    """Ask until the service takes the host; a refusal for good blocks for ever, as upstream's agent does."""
    path = f"/v2/infra-envs/{options.infra_env_id}/hosts"
    body = {"host_id": host_id, "discovery_agent_version": options.agent_version}
    while True:
        try:
            answer: HttpAnswer = yield from client.call("POST", path, body)
        except ConnectionFailed as error:
            yield Log(f"registration failed: {error}", "agent")
        else:
            if answer.status == 201:
                registration = _decoded(answer.body)
                if registration is not None:
                    yield Log(f"registered with status {registration.get('status', '')}", "agent")
                    return registration
            yield Log(f"registration answered {answer.status}: {_reason(answer)}", "agent")
            if answer.status in BLOCKING_STATUSES:
                yield from block_forever("registration was refused for good")
        yield Sleep(settings.register_retry_s)


def block_forever(why: str) -> Task[None]:
    """What upstream's agent does where it sees no point in going on: nothing, until the machine restarts."""
    yield Log(f"{why}; waiting for a restart", "agent")
    while True:
        yield Sleep(FOREVER_S)


def _decoded(body: bytes) -> dict[str, Any] | None:
    try:
        document = json_text.read(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _reason(answer: HttpAnswer) -> str:
    document = _decoded(answer.body) or {}
    return str(document.get("reason") or document.get("message") or "")[:300]


def _runner_command(registration: dict[str, Any]) -> dict[str, Any]:
    command = registration.get("next_step_runner_command")
    return command if isinstance(command, dict) else {}


def _runner_version(registration: dict[str, Any], options: AgentOptions) -> str:
    """The agent image that the service wants to run; its step runner says so in every request."""
    arguments = _runner_command(registration).get("args") or ["{}"]
    command = _decoded(str(arguments[0]).encode()) or {}
    return str(command.get("agent_version") or options.agent_version)
