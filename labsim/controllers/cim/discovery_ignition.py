"""The Ignition of a discovery image (cim-resources 4.3).

Names of units and files are upstream's; what the small scripts say is ours, and does what their names promise.
"""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import orjson

from labsim.controllers.cim.errors import ServiceError
from labsim.controllers.cim.pointer_ignition import merge_ignition
from labsim.controllers.cim.rows import InfraEnv
from labsim.controllers.cim.settings import CimSettings

CA_PATH = "/etc/assisted-service/service-ca-cert.crt"
TRUST_BUNDLE_PATH = "/etc/pki/ca-trust/source/anchors/assisted-infraenv-additional-trust-bundle.pem"
PACE_PATH = "/etc/labsim/pace.json"
RESOLVED_PATH = "/etc/systemd/resolved.conf.d/60-labsim.conf"
MAX_ARCHIVE_KIB = 256

MOTD = """
**  **  **  **  **  **  **  **  **  **  **  **  **  **  **  **  **  **  **
This is a host being installed by the OpenShift Assisted Installer.
It will be installed from scratch during the installation.

The primary service is agent.service. To watch its status, run:
sudo journalctl -u agent.service

To view the agent log, run:
sudo journalctl TAG=agent
**  **  **  **  **  **  **  **  **  **  **  **  **  **  **  **  **  **  **
"""

_PULL_IMAGE = """#!/usr/bin/sh
delay=5
until podman pull "$1"; do
  sleep "$delay"
  delay=$((delay * 2))
  [ "$delay" -gt 300 ] && delay=300
done
"""
_CONTAINER_FIX = """#!/usr/bin/sh
# Images half removed by a power loss are removed for good before they are pulled again.
podman image exists "$1" && podman inspect "$1" >/dev/null 2>&1 || podman rmi --force "$1" || true
"""
_OCI_USER_DATA = """#!/usr/bin/bash
# Runs the user data of an Oracle cloud instance, where there is one.
exit 0
"""
_NTP_SOURCES = """#!/usr/bin/sh
for source in $(cat /etc/assisted/ntp-sources 2>/dev/null); do
  grep -q "^server $source" /etc/chrony.conf || echo "server $source iburst" >> /etc/chrony.conf
done
"""


def discovery_ignition(row: InfraEnv, settings: CimSettings, token: str) -> bytes:
    """The configuration as JSON, version 3.1.0. `token` is what the agent shows the service."""
    document: dict[str, Any] = {
        "ignition": {"version": "3.1.0"},
        "passwd": {"users": _users(row)},
        "systemd": {"units": _units(row, settings, token)},
        "storage": {"files": _files(row, settings)},
    }
    if row.proxy:
        document["ignition"]["proxy"] = _ignition_proxy(row)
    if row.ignition_override:
        document = merge_ignition(document, parse_override(row.ignition_override))
    return orjson.dumps(document)


def parse_override(text: str) -> dict[str, Any]:
    """An ignitionConfigOverride. Raises ServiceError 400 where it is no Ignition of version 3."""
    try:
        override = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ServiceError(400, f"error parsing ignition: config is not valid: {error}") from error
    version = (override.get("ignition") or {}).get("version") if isinstance(override, dict) else None
    if not isinstance(override, dict) or not isinstance(version, str) or not version.startswith("3."):
        raise ServiceError(400, "error parsing ignition: unsupported config version")
    return override


def _users(row: InfraEnv) -> list[dict[str, Any]]:
    keys = [key.strip() for key in row.ssh_key.splitlines() if key.strip()]
    if not keys:
        return []
    return [{"name": "core", "passwordHash": "!", "sshAuthorizedKeys": keys, "groups": ["sudo"]}]


def _ignition_proxy(row: InfraEnv) -> dict[str, Any]:
    proxy: dict[str, Any] = {key: row.proxy[key] for key in ("httpProxy", "httpsProxy") if row.proxy.get(key)}
    if row.proxy.get("noProxy"):
        proxy["noProxy"] = row.proxy["noProxy"].split(",")
    return proxy


def _agent_unit(row: InfraEnv, settings: CimSettings, token: str) -> str:
    environment = [f"Environment=PULL_SECRET_TOKEN={token}"]
    for field, name in (("httpProxy", "HTTP_PROXY"), ("httpsProxy", "HTTPS_PROXY"), ("noProxy", "NO_PROXY")):
        if row.proxy.get(field):
            environment += [f"Environment={name}={row.proxy[field]}", f"Environment={name.lower()}={row.proxy[field]}"]
    command = (
        f"/usr/local/bin/agent --url {settings.service_base_url} --infra-env-id {row.id} "
        f"--agent-version {settings.agent_image} --insecure=false"
    )
    if settings.ca_pem:
        command += f" --cacert {CA_PATH}"
    image = settings.agent_image
    lines = [
        "[Unit]",
        "Wants=network-online.target",
        "After=network-online.target",
        "",
        "[Service]",
        "Type=simple",
        "Restart=always",
        "RestartSec=3",
        "StartLimitInterval=0",
        *environment,
        "TimeoutStartSec=600",
        f"ExecStartPre=/usr/local/bin/agent-fix-bz1964591 {image}",
        f"ExecStartPre=/usr/local/bin/agent-pull-image {image}",
        f"ExecStartPre=podman run --privileged --rm -v /usr/local/bin:/hostbin {image} cp /usr/bin/agent /hostbin",
        f"ExecStart={command}",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def _one_shot(description: str, command: str, *, before: str = "agent.service") -> str:
    return (
        f"[Unit]\nDescription={description}\nBefore={before}\n\n[Service]\nType=oneshot\nRemainAfterExit=true\n"
        f"ExecStart={command}\n\n[Install]\nWantedBy=multi-user.target\n"
    )


def _units(row: InfraEnv, settings: CimSettings, token: str) -> list[dict[str, Any]]:
    units: list[dict[str, Any]] = [
        {"name": "agent.service", "enabled": True, "contents": _agent_unit(row, settings, token)},
        {
            "name": "selinux.service",
            "enabled": True,
            "contents": _one_shot("SELinux policy of the agent", "/usr/sbin/semodule -i /root/assisted.pp"),
        },
        {"name": "multipathd.service", "enabled": True},
        {
            "name": "iscsistart.service",
            "enabled": True,
            "contents": _one_shot("Connect to iSCSI boot volumes", "/usr/sbin/iscsistart -b"),
        },
        {
            "name": "oci-eval-user-data.service",
            "enabled": True,
            "contents": _one_shot("Run Oracle cloud user data", "/usr/local/bin/oci-eval-user-data.sh"),
        },
    ]
    if row.static_network and row.image_type == "full-iso":
        command = "/usr/local/bin/pre-network-manager-config.sh"
        contents = _one_shot("Static network configuration", command, before="NetworkManager.service")
        units.append({"name": "pre-network-manager-config.service", "enabled": True, "contents": contents})
    if row.ntp_sources or row.additional_ntp_sources:
        contents = _one_shot("Add NTP sources", "/usr/local/bin/add-ntp-sources.sh", before="chronyd.service")
        units.append({"name": "add-ntp-sources.service", "enabled": True, "contents": contents})
    return units


def _files(row: InfraEnv, settings: CimSettings) -> list[dict[str, Any]]:
    files = [
        _file("/usr/local/bin/agent-fix-bz1964591", _CONTAINER_FIX, 0o755),
        _file("/usr/local/bin/agent-pull-image", _PULL_IMAGE, 0o755),
        _file("/usr/local/bin/oci-eval-user-data.sh", _OCI_USER_DATA, 0o755),
        _file("/etc/motd", MOTD, 0o644),
        _file("/etc/multipath.conf", "defaults {\n    user_friendly_names yes\n    find_multipaths yes\n}\n", 0o644),
        _file(
            "/etc/NetworkManager/conf.d/01-ipv6.conf", "[connection]\nipv6.dhcp-iaid=mac\nipv6.dhcp-duid=ll\n", 0o644
        ),
        _file("/root/.docker/config.json", row.pull_secret, 0o644),
        _file("/root/assisted.te", "module assisted 1.0;\n", 0o644),
    ]
    if settings.ca_pem:
        files.append(_file(CA_PATH, settings.ca_pem, 0o644))
    if row.additional_trust_bundle:
        files.append(_file(TRUST_BUNDLE_PATH, row.additional_trust_bundle, 0o600))
    if row.ntp_sources or row.additional_ntp_sources:
        sources = (row.ntp_sources or row.additional_ntp_sources).replace(",", " ")
        files.append(_file("/etc/assisted/ntp-sources", sources + "\n", 0o644))
        files.append(_file("/usr/local/bin/add-ntp-sources.sh", _NTP_SOURCES, 0o755))
    if row.proxy:
        files.append(_file("/etc/profile.d/proxy.sh", _proxy_profile(row), 0o644))
    if row.static_network:
        for number, entry in enumerate(row.static_network):
            files.append(_file(f"/etc/assisted/network/host{number}/config.json", orjson.dumps(entry).decode(), 0o600))
    if settings.hosts_entry:
        hosts = "127.0.0.1 localhost localhost.localdomain\n::1 localhost localhost.localdomain\n"
        files.append(_file("/etc/hosts", hosts + settings.hosts_entry, 0o644))
    if settings.name_server:
        files.append(_file(RESOLVED_PATH, f"[Resolve]\nDNS={settings.name_server}\n", 0o644))
    if settings.pace_json:
        files.append(_file(PACE_PATH, settings.pace_json, 0o644))
    return files


def _proxy_profile(row: InfraEnv) -> str:
    lines = []
    for field, name in (("httpProxy", "http_proxy"), ("httpsProxy", "https_proxy"), ("noProxy", "no_proxy")):
        if row.proxy.get(field):
            lines += [f"export {name}={row.proxy[field]}", f"export {name.upper()}={row.proxy[field]}"]
    return "\n".join(lines) + "\n"


def _file(path: str, text: str, mode: int) -> dict[str, Any]:
    """A file as a data URL: readable where it is short, base64 where it is longer."""
    if len(text) <= 64:
        source = f"data:,{quote(text)}"
    else:
        source = f"data:text/plain;charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"
    return {
        "path": path,
        "mode": mode,
        "overwrite": True,
        "user": {"name": "root"},
        "contents": {"source": source},
    }
