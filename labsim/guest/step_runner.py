"""The next step runner: polls for instructions, runs the steps side by side, posts what came out.

Source: host-lifecycle 3.4 (retries, dedup, exit) and 3.5 (steps and replies).
"""

from __future__ import annotations

import hashlib
from typing import Any

from labsim.guest import json_text
from labsim.guest.effects import ConnectionFailed, HttpAnswer, Log, Now, RandomBytes, Sleep, Spawn, Task
from labsim.guest.service import ServiceAccess, ServiceClient, spread
from labsim.guest.steps import run_step
from labsim.guest.steps.context import StepContext, StepResult

BACK_OFF_FIRST_S = 0.5
BACK_OFF_FACTOR = 1.5
BACK_OFF_SPREAD = 0.5
BACK_OFF_CAP_S = 60.0
BACK_OFF_GIVE_UP_S = 900.0
CACHE_S = 3600.0
FOREVER_S = 86_400.0


class StepRunner:
    """One process of `next_step_runner`, on a discovery image or in the pod that reclaims a node."""

    def __init__(self, access: ServiceAccess, context: StepContext) -> None:
        self._client = ServiceClient(access)
        self._context = context
        self._path = f"/v2/infra-envs/{context.infra_env_id}/hosts/{context.host_id}/instructions"
        # step type -> (digest of the output, until when it counts as stored)
        self._posted: dict[str, tuple[bytes, float]] = {}
        self._ended = False

    def run(self) -> Task[int]:
        """Poll until told to end; the exit code of the process."""
        back_off_s = BACK_OFF_FIRST_S
        failing_since_s: float | None = None
        while not self._ended:
            now_s: float = yield Now()
            instructions = yield from self._poll(now_s)
            if instructions is None:
                failing_since_s = now_s if failing_since_s is None else failing_since_s
                if now_s - failing_since_s > BACK_OFF_GIVE_UP_S:
                    yield Log("no instructions for 15 minutes: ending", "runner")
                    return 0
                drawn: bytes = yield RandomBytes("poll-back-off", 7)
                yield Sleep(back_off_s * spread(drawn, 1 - BACK_OFF_SPREAD, 1 + BACK_OFF_SPREAD))
                back_off_s = min(back_off_s * BACK_OFF_FACTOR, BACK_OFF_CAP_S)
                continue
            back_off_s, failing_since_s = BACK_OFF_FIRST_S, None
            pause_s = float(instructions.get("next_instruction_seconds") or 0)
            is_last = instructions.get("post_step_action") == "exit"
            yield from self._start_steps(instructions.get("instructions") or [])
            instructions = None  # they grow with the cluster, and nobody needs them while this sleeps
            yield Sleep(pause_s)
            if is_last:
                yield Log("the service asked this runner to end", "runner")
                return 0
        return 0

    def _start_steps(self, steps: list[dict[str, Any]]) -> Task[None]:
        for step in steps:
            yield Spawn(self._run_step(step), str(step.get("step_id") or step.get("step_type")))

    def _poll(self, now_s: float) -> Task[dict[str, Any] | None]:
        """The instructions, or None where there were none to be had and the caller backs off."""
        try:
            answer: HttpAnswer = yield from self._client.call("GET", f"{self._path}?timestamp={int(now_s)}")
        except ConnectionFailed as error:
            self._posted.clear()
            yield Log(f"cannot get instructions: {error}", "runner")
            return None
        if answer.status == 200:
            try:
                instructions = json_text.read(answer.body)
            except ValueError:
                instructions = None
            if isinstance(instructions, dict):
                return instructions
        self._posted.clear()
        yield Log(f"GET instructions answered {answer.status}", "runner")
        if answer.status == 404:
            yield Log("the service does not know this host; waiting for a restart", "runner")
            while True:
                yield Sleep(FOREVER_S)
        return None

    def _run_step(self, step: dict[str, Any]) -> Task[None]:
        step_type, step_id = str(step.get("step_type", "")), str(step.get("step_id", ""))
        arguments = [str(argument) for argument in step.get("args") or []]
        result: StepResult | None = yield from run_step(self._context, self._client.access, step_type, arguments)
        if result is None:  # the machine restarts: nobody is left to answer
            return
        yield from self._reply(step_type, step_id, result)
        if result.ends_runner:
            self._ended = True

    def _reply(self, step_type: str, step_id: str, result: StepResult) -> Task[None]:
        digest = hashlib.sha256(result.output.encode()).digest() if result.exit_code == 0 else b""
        if digest and step_type in self._posted:
            posted, until_s = self._posted[step_type]
            if posted == digest and (yield Now()) < until_s:
                return
        reply: dict[str, Any] = {"step_type": step_type, "step_id": step_id}
        if result.exit_code:
            reply["exit_code"] = result.exit_code
        if result.output:
            reply["output"] = result.output
        if result.error:
            reply["error"] = result.error
        try:
            answer: HttpAnswer = yield from self._client.call("POST", self._path, reply)
        except ConnectionFailed as error:
            yield Log(f"cannot post the reply of {step_id}: {error}", "runner")
            return
        if answer.status >= 300:
            yield Log(f"the reply of {step_id} was answered {answer.status}: {answer.body[:200]!r}", "runner")
        elif digest:
            self._posted[step_type] = (digest, (yield Now()) + CACHE_S)
