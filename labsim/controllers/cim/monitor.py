"""The host monitor: refreshes hosts at upstream's ticks, but only those whose refresh can come out differently.

Upstream looks at every row of the tick's window. A refresh depends on what was reported and on deadlines alone, so it
is enough to look, at the first tick whose window holds the row, at hosts about which something was reported or whose
deadline has passed: the results are the same. Source: host-lifecycle 2.1.
"""

from __future__ import annotations

import heapq
import itertools

from labsim.controllers.cim.database import Database, HostKey
from labsim.controllers.cim.host_states import UNSCANNED
from labsim.controllers.cim.lifecycle import HostLifecycle
from labsim.controllers.cim.refresh import next_deadline_s
from labsim.controllers.cim.rows import Host
from labsim.controllers.runtime.effects import Controller, Enqueue, Key, Program, Result, now

SHORT_WINDOW_S = 300.0
LONG_WINDOW_S = 900.0
MINUTE_S = 60.0
FULL_SCAN_S = 300.0
# Times are floats of some 10^9 seconds: a tick that is reached may be a little short of itself.
ROUNDING_S = 1e-5
MONITOR_KEY = Key("", "hosts")
# A group is what is scanned together: a cluster with all its hosts, or one host of the pool.
Group = tuple[str, str]


class ScanWindows:
    """Which rows a tick looks at. Ticks are `interval_s` apart, from `start_s` on."""

    def __init__(self, start_s: float, interval_s: float) -> None:
        self.start_s = start_s
        self.interval_s = interval_s

    def tick_at_or_after(self, when_s: float) -> float:
        """The first tick at or after a time."""
        count = max(0, -int(-(when_s - self.start_s) // self.interval_s))
        tick_s = self.start_s + count * self.interval_s
        return tick_s if tick_s >= when_s else tick_s + self.interval_s

    def first_after_boundary(self, tick_s: float, period_s: float) -> bool:
        """Whether the wall clock entered a new minute (or five) since the tick before; the first call counts."""
        if tick_s <= self.start_s:
            return True
        return tick_s // period_s != (tick_s - self.interval_s) // period_s

    def scans(self, tick_s: float, trigger_s: float) -> bool:
        """Whether the tick's window holds a row with this trigger_monitor_timestamp."""
        if tick_s - trigger_s <= SHORT_WINDOW_S or self.first_after_boundary(tick_s, FULL_SCAN_S):
            return True
        return tick_s - trigger_s <= LONG_WINDOW_S and self.first_after_boundary(tick_s, MINUTE_S)

    def next_scan_s(self, not_before_s: float, trigger_s: float) -> float:
        """The first tick from `not_before_s` on whose window holds the row."""
        tick_s = self.tick_at_or_after(not_before_s)
        if self.scans(tick_s, trigger_s):
            return tick_s
        minute_s = self.tick_at_or_after((tick_s // MINUTE_S + 1) * MINUTE_S)
        if self.scans(minute_s, trigger_s):
            return minute_s
        return self.tick_at_or_after((tick_s // FULL_SCAN_S + 1) * FULL_SCAN_S)


class HostMonitor:
    """Knows which hosts are to be looked at, and when."""

    def __init__(self, database: Database, lifecycle: HostLifecycle) -> None:
        self._database = database
        self._lifecycle = lifecycle
        self._windows: ScanWindows | None = None
        self._last_tick_s = float("-inf")
        self._armed_s = float("-inf")
        self._ripe: dict[Group, dict[HostKey, None]] = {}
        self._deadlines: list[tuple[float, int, HostKey]] = []
        self._deadline_of: dict[HostKey, float] = {}
        self._disconnected: set[HostKey] = set()  # as their last refresh found them
        self._order = itertools.count()
        self.refreshed = 0
        database.on_host_input = self._on_input
        database.on_trigger = self._on_trigger

    # -- what the database tells --------------------------------------------------

    def _group(self, host: Host) -> Group:
        return ("cluster", host.cluster_id) if host.cluster_id else host.key

    def _trigger_s(self, group: Group) -> float:
        if group[0] == "cluster":
            cluster = self._database.clusters.get(group[1])
            return cluster.trigger_s if cluster is not None else float("-inf")
        host = self._database.hosts.get(group)
        return host.trigger_s if host is not None else float("-inf")

    def _on_input(self, host: Host) -> None:
        if host.status not in UNSCANNED:
            self._ripe.setdefault(self._group(host), {})[host.key] = None
            self._disarm()

    def _on_trigger(self, host: Host) -> None:
        if self._group(host) in self._ripe:
            self._disarm()

    def _disarm(self) -> None:
        """Something may be due sooner than what was asked for: the next `wake` looks."""
        self._armed_s = float("inf")

    def wake(self, now_s: float) -> Program[None]:
        """Ask for the tick that the changes so far need, unless an earlier or equal one is asked for."""
        if self._armed_s != float("inf"):
            return
        due_s = self.next_due_s(now_s)
        self._armed_s = due_s
        yield Enqueue("monitor", MONITOR_KEY, max(0.0, due_s - now_s))

    # -- ticks --------------------------------------------------

    def windows(self, now_s: float) -> ScanWindows:
        if self._windows is None:
            self._windows = ScanWindows(now_s, self._lifecycle.settings.timeouts.monitor_interval_s)
        return self._windows

    def next_due_s(self, now_s: float) -> float:
        """The next tick at which something can change; at most one full scan away, so that no lost wake-up matters."""
        windows = self.windows(now_s)
        first_s = windows.tick_at_or_after(max(now_s, self._last_tick_s + windows.interval_s))
        due_s = windows.tick_at_or_after((first_s // FULL_SCAN_S + 1) * FULL_SCAN_S)
        for group in self._ripe:
            due_s = min(due_s, windows.next_scan_s(first_s, self._trigger_s(group)))
            if due_s <= first_s:
                return due_s
        if self._deadlines:
            # A deadline must have passed, not just been reached.
            due_s = min(due_s, max(first_s, windows.tick_at_or_after(self._deadlines[0][0] + ROUNDING_S)))
        return due_s

    def tick(self, now_s: float) -> None:
        """Refresh what the tick at or before `now_s` would have changed. Bound hosts come first, then the pool."""
        windows = self.windows(now_s)
        tick_s = windows.start_s + ((now_s - windows.start_s + ROUNDING_S) // windows.interval_s) * windows.interval_s
        if tick_s <= self._last_tick_s + ROUNDING_S:
            return
        self._last_tick_s = tick_s
        self._ripen(tick_s)
        scanned = [group for group in self._ripe if windows.scans(tick_s, self._trigger_s(group))]
        scanned.sort(key=lambda group: (group[0] != "cluster", group))
        for group in scanned:
            for key in sorted(self._ripe.pop(group, ())):
                self._refresh(key, group, tick_s)

    def _ripen(self, tick_s: float) -> None:
        while self._deadlines and self._deadlines[0][0] < tick_s:
            deadline_s, _, key = heapq.heappop(self._deadlines)
            if self._deadline_of.get(key) != deadline_s:
                continue
            del self._deadline_of[key]
            host = self._database.hosts.get(key)
            if host is None:
                continue
            actual_s = self._deadline(host)
            if actual_s is not None and actual_s < tick_s:
                self._ripe.setdefault(self._group(host), {})[key] = None
            else:
                self._push(key, actual_s)

    def _refresh(self, key: HostKey, group: Group, tick_s: float) -> None:
        host = self._database.hosts.get(key)
        if host is None or self._group(host) != group or host.status in UNSCANNED:
            return
        self.refreshed += 1
        self._lifecycle.refresh(host, tick_s)
        # What the refresh itself changed is no new report: the next tick would find nothing to do.
        self._settle(host)
        if self._lifecycle.is_connected(host, tick_s):
            self._disconnected.discard(key)
        else:
            self._disconnected.add(key)
        self._push(key, self._deadline(host))

    def _settle(self, host: Host) -> None:
        waiting = self._ripe.get(self._group(host))
        if waiting is not None:
            waiting.pop(host.key, None)
            if not waiting:
                del self._ripe[self._group(host)]

    def _deadline(self, host: Host) -> float | None:
        return next_deadline_s(
            host.status,
            stage=host.stage,
            seen_disconnected=host.key in self._disconnected,
            checked_in_at_s=host.checked_in_at_s,
            status_updated_at_s=host.status_updated_at_s,
            stage_updated_at_s=host.stage_updated_at_s,
            timeouts=self._lifecycle.settings.timeouts,
        )

    def _push(self, key: HostKey, deadline_s: float | None) -> None:
        if deadline_s is None:
            self._deadline_of.pop(key, None)
        elif self._deadline_of.get(key) != deadline_s:
            self._deadline_of[key] = deadline_s
            heapq.heappush(self._deadlines, (deadline_s, next(self._order), key))

    # -- the controller --------------------------------------------------

    def controller(self) -> Controller:
        return Controller(name="monitor", reconcile=self._reconcile, watches=())

    def _reconcile(self, key: Key) -> Program[Result]:
        assert key == MONITOR_KEY
        now_s = yield from now()
        self.tick(now_s)
        yield from self._database.wakes()
        due_s = self.next_due_s(now_s)
        self._armed_s = due_s
        return Result(requeue_after_s=max(0.0, due_s - now_s))
