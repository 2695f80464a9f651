"""What may differ between two runs of the same guest: pace, and nothing about what it does."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class GuestSettings:
    """Intervals of the program, all in in-world seconds; the defaults are upstream's."""

    register_retry_s: float = 60.0  # the agent's --interval
    runner_crash_delay_s: float = 3600.0
    write_parts: int = 8  # WriteDisk effects per installation; progress is told in steps of 5 % or more
    reboot_delay_s: float = 60.0  # shutdown -r +1
    kubelet_lease_interval_s: float = 10.0
    watch_timeout_s: tuple[float, float] = (300.0, 600.0)  # client-go: five minutes, and up to twice that
    relist_pause_s: tuple[float, float] = (0.8, 30.0)  # after a list or a watch that failed: doubled up to the second
    kubelet_status_interval_s: float = 300.0
    csr_poll_interval_s: float = 5.0
    kubelet_retry_s: float = 10.0
    network_ready_s: tuple[float, float] = (100.0, 200.0)  # until the network plugin runs: Ready after 2-4 min
    pod_start_s: float = 3.0
    tunnel_probe_s: float = 120.0  # how often a konnectivity agent makes sure of its server
    tunnel_retry_s: float = 10.0


UPSTREAM_PACE = GuestSettings()
