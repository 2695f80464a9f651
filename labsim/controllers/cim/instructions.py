"""What a polling agent is told to do, by the state of its host (host-lifecycle section 5)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import orjson

from labsim.controllers.cim import urls
from labsim.controllers.cim.database import Database
from labsim.controllers.cim.host_states import POOL
from labsim.controllers.cim.pointer_ignition import ignition_url
from labsim.controllers.cim.rows import Cluster, Host
from labsim.controllers.cim.settings import CimSettings
from labsim.entropy import Entropy

UPGRADE_STATES = (
    "binding",
    "discovering",
    "discovering-unbound",
    "insufficient",
    "insufficient-unbound",
    "known",
    "known-unbound",
    "pending-for-input",
)
EXIT_STATES = ("binding", "unbinding", "unbinding-pending-user-action")
BACKED_OFF_STATES = ("disconnected", "disconnected-unbound", "reclaiming-rebooting", "error", "cancelled")

STEPS: dict[str, tuple[str, ...]] = {
    "discovering-unbound": ("inventory", "ntp-synchronizer"),
    "insufficient-unbound": ("inventory", "ntp-synchronizer"),
    "known-unbound": ("inventory", "ntp-synchronizer"),
    "disconnected-unbound": ("inventory",),
    "reclaiming": ("download-boot-artifacts",),
    "reclaiming-rebooting": ("reboot-for-reclaim",),
    "discovering": ("inventory", "ntp-synchronizer", "domain-resolution"),
    "insufficient": (
        "inventory",
        "connectivity-check",
        "api-vip-connectivity-check",
        "tang-connectivity-check",
        "ntp-synchronizer",
        "domain-resolution",
    ),
    "known": (
        "connectivity-check",
        "api-vip-connectivity-check",
        "tang-connectivity-check",
        "inventory",
        "ntp-synchronizer",
        "domain-resolution",
    ),
    "pending-for-input": (
        "inventory",
        "connectivity-check",
        "api-vip-connectivity-check",
        "tang-connectivity-check",
    ),
    "disconnected": ("inventory",),
    "installing": ("install",),
    "error": ("logs-gather", "stop-installation"),
    "cancelled": ("logs-gather", "stop-installation"),
}


class Instructions:
    """Makes the answer to a poll."""

    def __init__(
        self, database: Database, settings: CimSettings, entropy: Entropy, image_token: Callable[[str], str]
    ) -> None:
        self._database = database
        self._settings = settings
        self._entropy = entropy.child("steps")
        self._image_token = image_token  # the api_key of an InfraEnv's image, for boot artifacts
        self._arguments: dict[str, Callable[[Host, Cluster | None], list[str] | None]] = {
            "inventory": self._inventory,
            "ntp-synchronizer": self._ntp,
            "domain-resolution": self._domains,
            "connectivity-check": self._connectivity,
            "api-vip-connectivity-check": self._api_vip,
            "tang-connectivity-check": self._tang,
            "install": self._install,
            "logs-gather": self._logs,
            "stop-installation": self._stop,
            "download-boot-artifacts": self._boot_artifacts,
            "reboot-for-reclaim": self._reboot,
        }

    def answer(self, host: Host) -> dict[str, Any]:
        """The poll answer of a host as it is now."""
        status = host.status
        timeouts = self._settings.timeouts
        if self._must_upgrade(host):
            arguments = orjson.dumps({"agent_image": self._settings.agent_image}).decode()
            return {
                "instructions": [self._step(host, "upgrade-agent", 0, [arguments])],
                "next_instruction_seconds": timeouts.poll_s,
                "post_step_action": "continue",
            }
        if status in EXIT_STATES:
            return {"instructions": None, "post_step_action": "exit"}
        cluster = self._database.clusters.get(host.cluster_id)
        steps: list[dict[str, Any]] = []
        for name in STEPS.get(status, ()):
            found = self._arguments[name](host, cluster)
            if found is not None:
                steps.append(self._step(host, name, len(steps), found))
        backed_off = status in BACKED_OFF_STATES
        return {
            "instructions": steps or None,
            "next_instruction_seconds": timeouts.backed_off_poll_s if backed_off else timeouts.poll_s,
            "post_step_action": "exit" if status == "reclaiming-rebooting" else "continue",
        }

    def _must_upgrade(self, host: Host) -> bool:
        return (
            bool(host.agent_version)
            and host.agent_version != self._settings.agent_image
            and host.status in UPGRADE_STATES
        )

    def _step(self, host: Host, name: str, place: int, arguments: list[str]) -> dict[str, Any]:
        number = self._entropy.bytes(f"{host.id}/{host.polls}", 48)[4 * place : 4 * place + 4].hex()
        step: dict[str, Any] = {"step_type": name, "step_id": f"{name}-{number}"}
        if arguments:
            step["args"] = arguments
        return step

    # -- arguments; None leaves the step out --------------------------------------------------

    def _inventory(self, host: Host, _cluster: Cluster | None) -> list[str]:
        return [host.id]

    def _ntp(self, host: Host, _cluster: Cluster | None) -> list[str]:
        infra_env = self._database.infra_envs.get(host.infra_env_id)
        sources = ""
        if infra_env is not None:
            sources = infra_env.ntp_sources or infra_env.additional_ntp_sources
        return ['{"ntp_source":""}' if not sources else orjson.dumps({"ntp_source": sources}).decode()]

    def _domains(self, _host: Host, cluster: Cluster | None) -> list[str] | None:
        if cluster is None or not cluster.cluster_name or not cluster.base_domain:
            return None
        wildcard = f"validateNoWildcardDNS.{cluster.cluster_name}.{cluster.base_domain}"
        names = (*cluster.domains, wildcard + ".", wildcard)
        return [orjson.dumps({"domains": [{"domain_name": name} for name in names]}).decode()]

    def _connectivity(self, host: Host, cluster: Cluster | None) -> list[str] | None:
        """The addresses of all other hosts that are past discovery; each host's part is made once."""
        if cluster is None:
            return None
        others = [entry for host_id, entry in cluster.reachable.items() if host_id != host.id]
        return ["[" + ",".join(others) + "]"] if others else None

    def _api_vip(self, host: Host, cluster: Cluster | None) -> list[str] | None:
        if cluster is None or not cluster.ignition_endpoint_url:
            return None
        request: dict[str, Any] = {"url": ignition_url(host, cluster)}
        if cluster.ignition_endpoint_ca:
            request["ca_certificate"] = base64.b64encode(cluster.ignition_endpoint_ca.encode()).decode()
        if host.ignition_token:
            request["ignition_endpoint_token"] = host.ignition_token
        if host.ignition_headers:
            request["request_headers"] = [
                {"key": key, "value": value} for key, value in sorted(host.ignition_headers.items())
            ]
        return [orjson.dumps(request).decode()]

    def _tang(self, host: Host, cluster: Cluster | None) -> list[str] | None:
        """Only where the Ignition that the host fetched binds its disks to tang servers."""
        if cluster is None or host.api_vip is None or '"tang"' not in host.api_vip.filtered_ignition:
            return None
        try:
            storage = orjson.loads(host.api_vip.filtered_ignition).get("storage") or {}
            servers = [
                server for luks in storage.get("luks") or () for server in (luks.get("clevis") or {}).get("tang") or ()
            ]
        except (ValueError, AttributeError):
            return None
        return [orjson.dumps({"tang_servers": orjson.dumps(servers).decode()}).decode()]

    def _install(self, host: Host, _cluster: Cluster | None) -> list[str]:
        disk = host.inventory.disk(host.installation_disk_id) if host.inventory else None
        request: dict[str, Any] = {
            "boot_device": host.installation_disk_path or (disk.path if disk else ""),
            "check_cvo": True,
            "cluster_id": host.cluster_id,
            "controller_image": self._settings.controller_image,
            "disks_to_format": [disk.id] if disk is not None and disk.bootable else [],
            "host_id": host.id,
            "infra_env_id": host.infra_env_id,
            "installer_image": self._settings.installer_image,
            "role": host.effective_role,
            "service_ips": None,
        }
        if host.installer_args:
            request["installer_args"] = host.installer_args
        infra_env = self._database.infra_envs.get(host.infra_env_id)
        if infra_env is not None:
            if infra_env.static_network:
                flags = orjson.loads(host.installer_args) if host.installer_args else []
                if "--copy-network" not in flags and "-n" not in flags:
                    request["installer_args"] = orjson.dumps([*flags, "--copy-network"]).decode()
            if infra_env.proxy:
                names = {"httpProxy": "http_proxy", "httpsProxy": "https_proxy", "noProxy": "no_proxy"}
                request["proxy"] = {names[key]: value for key, value in infra_env.proxy.items() if key in names}
        return [orjson.dumps(request).decode()]

    def _logs(self, host: Host, _cluster: Cluster | None) -> list[str] | None:
        if host.logs_collected_at_s:
            return None
        request = {
            "cluster_id": host.cluster_id,
            "infra_env_id": host.infra_env_id,
            "host_id": host.id,
            "bootstrap": host.bootstrap,
            "installer_gather": True,
            "master_ips": None,
        }
        return [orjson.dumps(request).decode()]

    def _stop(self, _host: Host, _cluster: Cluster | None) -> list[str]:
        return []

    def _boot_artifacts(self, host: Host, _cluster: Cluster | None) -> list[str] | None:
        infra_env = self._database.infra_envs.get(host.infra_env_id)
        if infra_env is None:
            return None
        request = {
            "host_fs_mount_dir": "/host",
            "initrd_url": urls.initrd_url(self._settings, infra_env, self._image_token(infra_env.id)),
            "kernel_url": urls.kernel_url(self._settings, infra_env),
            "rootfs_url": urls.rootfs_url(self._settings, infra_env),
        }
        return [orjson.dumps(request).decode()]

    def _reboot(self, _host: Host, _cluster: Cluster | None) -> list[str]:
        return ['{"host_fs_mount_dir":"/host"}']


def accepts_inventory(status: str) -> bool:
    """States in which an inventory is stored; elsewhere the reply is answered with 500 (host-lifecycle 3.5)."""
    return status in POOL or status in (
        "discovering",
        "known",
        "insufficient",
        "disconnected",
        "pending-for-input",
        "installing-in-progress",
    )
