"""The addresses that CIM hands out (cim-resources section 2). Queries are sorted by key."""

from __future__ import annotations

from urllib.parse import urlencode

from labsim.controllers.cim.rows import InfraEnv
from labsim.controllers.cim.settings import CimSettings, OsImage

API = "/api/assisted-install"
_FILES = {"full-iso": "full.iso", "minimal-iso": "minimal.iso", "disconnected-iso": "disconnected.iso"}


def _service(settings: CimSettings, path: str, query: dict[str, str]) -> str:
    return f"{settings.service_base_url}{API}{path}?{urlencode(sorted(query.items()))}"


def _image(settings: CimSettings, path: str, query: dict[str, str]) -> str:
    return f"{settings.image_service_base_url}{path}?{urlencode(sorted(query.items()))}"


def iso_url(settings: CimSettings, row: InfraEnv, image: OsImage) -> str:
    """Where the discovery ISO is downloaded; the token stands in the path."""
    path = f"byapikey/{row.image_token}/{image.openshift_version}/{row.cpu_architecture}/{_FILES[row.image_type]}"
    return f"{settings.image_service_base_url}/{path}"


def kernel_url(settings: CimSettings, row: InfraEnv) -> str:
    query = {"arch": row.cpu_architecture, "version": row.openshift_version}
    return _image(settings, "/boot-artifacts/kernel", query)


def rootfs_url(settings: CimSettings, row: InfraEnv) -> str:
    query = {"arch": row.cpu_architecture, "version": row.openshift_version}
    return _image(settings, "/boot-artifacts/rootfs", query)


def initrd_url(settings: CimSettings, row: InfraEnv, token: str) -> str:
    query = {"api_key": token, "arch": row.cpu_architecture, "version": row.openshift_version}
    return _image(settings, f"/images/{row.id}/pxe-initrd", query)


def infra_env_file_url(settings: CimSettings, row: InfraEnv, token: str, file_name: str) -> str:
    query = {"api_key": token, "file_name": file_name}
    if file_name == "ipxe-script" and row.ipxe_script_type == "BootOrderControl":
        query["ipxe_script_type"] = "boot-order-control"
    return _service(settings, f"/v2/infra-envs/{row.id}/downloads/files", query)


def events_url(settings: CimSettings, token: str, field: str, value: str) -> str:
    """`field` is infra_env_id, host_id or cluster_id."""
    return _service(settings, "/v2/events", {"api_key": token, field: value})


def logs_url(settings: CimSettings, token: str, cluster_id: str, host_id: str) -> str:
    query = {"api_key": token, "host_id": host_id, "logs_type": "host"}
    return _service(settings, f"/v2/clusters/{cluster_id}/logs", query)
