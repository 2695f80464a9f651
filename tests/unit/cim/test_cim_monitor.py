"""The monitor looks at few hosts, and finds what a full look at every tick of upstream's would find."""

from __future__ import annotations

from typing import Any

import pytest
from cim_lab import START_S, Service, inventory
from hypothesis import given, settings
from hypothesis import strategies as st

from labsim.controllers.cim.host_states import UNSCANNED
from labsim.controllers.cim.monitor import MONITOR_KEY, ScanWindows
from labsim.controllers.cim.rows import Host
from labsim.controllers.runtime.effects import Result

TICK_S = 8.0
HOSTS = ("00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b")


def _scan_everything(service: Service, tick_s: float) -> None:
    """Upstream's tick: every row of the window, bound hosts first."""
    windows = ScanWindows(START_S, TICK_S)
    database = service.cim.database

    def trigger(host: Host) -> float:
        cluster = database.clusters.get(host.cluster_id)
        return host.trigger_s if cluster is None else cluster.trigger_s

    hosts = sorted(database.hosts.values(), key=lambda host: (not host.cluster_id, host.cluster_id, host.key))
    chosen = [host for host in hosts if windows.scans(tick_s, trigger(host))]
    for host in chosen:
        if host.status not in UNSCANNED:
            service.cim.lifecycle.refresh(host, tick_s)


def _snapshot(service: Service) -> list[Any]:
    return [
        (host.id, host.status, host.status_info, host.status_updated_at_s, host.validations_text)
        for host in sorted(service.cim.database.hosts.values(), key=lambda host: host.id)
    ]


def _act(service: Service, action: str, host_id: str) -> None:
    database, lifecycle, now_s = service.cim.database, service.cim.lifecycle, service.now_s
    host = database.hosts.get((service.infra_env().id, host_id))
    if action == "register":
        try:
            lifecycle.register(service.infra_env(), host_id, service.cim.settings.agent_image, now_s)
        except Exception:
            return
        return
    if host is None:
        return
    if action == "poll":
        database.check_in(host, now_s, int(now_s), service.cim.settings.agent_image)
    elif action == "late-clock":
        database.check_in(host, now_s, int(now_s) - 3000, service.cim.settings.agent_image)
    else:
        try:
            if action == "inventory":
                service.reply(host, "inventory", inventory(f"worker-{host_id[-1]}"))
            elif action == "same-name":
                service.reply(host, "inventory", inventory("twin"))
            elif action == "small":
                service.reply(host, "inventory", inventory("tiny", cpus=1))
            elif action == "fetch":
                ignition = '{"storage":{"files":[{"path":"/etc/kubernetes/manifests/coredns.yaml"}]}}'
                service.reply(host, "api-vip-connectivity-check", {"is_success": True, "ignition": ignition})
            elif action == "bind":
                lifecycle.bind(host, service.cluster(), now_s)
            elif action == "install":
                lifecycle.install(host, service.cluster(), now_s)
            elif action.startswith("stage "):
                lifecycle.progress(host, action[6:], "", now_s)
            elif action == "unbind":
                lifecycle.unbind(host, now_s, reclaim=False)
            elif action == "reclaim":
                lifecycle.unbind(host, now_s, reclaim=True)
            elif action == "media":
                lifecycle.media_disconnected(host, now_s)
        except Exception:
            return


ACTIONS = (
    "register", "poll", "inventory", "poll", "bind", "register", "inventory", "fetch", "install",
    "stage Starting installation", "stage Rebooting", "stage Done", "unbind", "reclaim", "same-name", "small",
    "late-clock", "media",
)  # fmt: skip
STEP = st.tuples(
    st.sampled_from(ACTIONS), st.sampled_from(HOSTS), st.sampled_from((0.0, 1.0, 7.5, 8.0, 61.0, 170.0, 400.0, 1500.0))
)


class Everything:
    """Upstream's monitor: looks at each tick."""

    def asked(self, service: Service) -> None:
        """It needs no wake-ups."""

    def tick(self, service: Service, tick_s: float) -> None:
        _scan_everything(service, tick_s)


class Sparse:
    """Ours: runs only at the ticks that it or a wake-up asked for, the earliest of them first."""

    def __init__(self) -> None:
        self.due_s = START_S

    def asked(self, service: Service) -> None:
        for effect in service.cim.monitor.wake(service.now_s):
            self.due_s = min(self.due_s, service.now_s + effect.after_s)

    def tick(self, service: Service, tick_s: float) -> None:
        if tick_s < self.due_s - 1e-3:
            return
        later_s, service.now_s = service.now_s, tick_s
        controller = next(entry for entry in service.cim.controllers() if entry.name == "monitor")
        result = service.run(controller.reconcile(MONITOR_KEY))
        service.now_s = later_s
        self.due_s = tick_s + result.requeue_after_s


def _run(steps: list[tuple[str, str, float]], monitor: Everything | Sparse) -> list[Any]:
    """Play the steps with every tick of the monitor between them. What the hosts looked like after each tick."""
    service = Service()
    service.infra_env()
    service.cluster()
    service.cim.monitor.windows(START_S)
    seen = []
    next_tick_s = START_S
    for action, host_id, pause_s in [*steps, ("poll", HOSTS[0], 4000.0)]:
        _act(service, action, host_id)
        monitor.asked(service)
        until_s = service.now_s + pause_s
        while next_tick_s <= until_s:
            monitor.tick(service, next_tick_s)
            next_tick_s += TICK_S
            seen.append(_snapshot(service))
        service.now_s = until_s
    return seen


@given(st.lists(STEP, max_size=30))
@settings(max_examples=150, deadline=None)
def test_the_monitor_finds_what_a_full_scan_at_every_tick_finds(steps: list[tuple[str, str, float]]) -> None:
    assert _run(steps, Sparse()) == _run(steps, Everything())


def test_the_straight_road_is_the_same_under_both() -> None:
    steps = [
        ("register", HOSTS[0], 1.0),
        ("poll", HOSTS[0], 1.0),
        ("inventory", HOSTS[0], 61.0),
        ("bind", HOSTS[0], 8.0),
        ("register", HOSTS[0], 1.0),
        ("poll", HOSTS[0], 0.0),
        ("inventory", HOSTS[0], 8.0),
        ("fetch", HOSTS[0], 61.0),
        ("poll", HOSTS[0], 0.0),
        ("install", HOSTS[0], 61.0),
        ("stage Rebooting", HOSTS[0], 1500.0),
        ("stage Done", HOSTS[0], 8.0),
        ("reclaim", HOSTS[0], 8.0),
    ]
    sparse = _run(steps, Sparse())
    assert sparse == _run(steps, Everything())
    assert sparse[-1][0][1] == "unbinding-pending-user-action"  # reclaiming ran out of time


def test_an_idle_host_costs_next_to_no_refreshes() -> None:
    service = Service()
    host = service.host()
    service.reply(host, "inventory", inventory())
    monitor = service.cim.monitor
    tick_s = START_S
    for minute in range(180):
        service.now_s = START_S + 60.0 * minute
        service.cim.database.check_in(host, service.now_s, int(service.now_s), "")
        while tick_s < service.now_s + 60.0:
            monitor.tick(tick_s)
            tick_s += TICK_S
    assert host.status == "known-unbound"
    assert monitor.refreshed <= 3


@pytest.mark.parametrize(
    ("tick", "trigger_age", "expected"),
    [(304.0, 10.0, True), (312.0, 301.0, False), (360.0, 800.0, True), (368.0, 800.0, False), (360.0, 1000.0, False),
     (600.0, 10**6, True), (608.0, 10**6, False), (0.0, 10**6, True)],
)  # fmt: skip
def test_windows_of_a_tick(tick: float, trigger_age: float, expected: bool) -> None:
    windows = ScanWindows(START_S, TICK_S)
    assert windows.scans(START_S + tick, START_S + tick - trigger_age) is expected


def test_the_monitor_always_asks_for_its_next_full_scan() -> None:
    service = Service()
    controller = next(entry for entry in service.cim.controllers() if entry.name == "monitor")
    result = service.run(controller.reconcile(MONITOR_KEY))
    assert isinstance(result, Result)
    assert 0 < (result.requeue_after_s or 0) <= 304
