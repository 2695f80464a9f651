"""Rows as the REST API answers them."""

from __future__ import annotations

from typing import Any

import orjson

from labsim.controllers.cim.host_states import WORKER_STAGES
from labsim.controllers.cim.rows import Cluster, Host, InfraEnv
from labsim.controllers.cim.settings import CimSettings
from labsim.model.objects import Object, timestamp

API_PREFIX = "/api/assisted-install"


def percentage(stage: str) -> int:
    """How far an installation is, by its stage: whole percents."""
    return (WORKER_STAGES.index(stage) + 1) * 100 // len(WORKER_STAGES) if stage in WORKER_STAGES else 0


def host_document(host: Host) -> Object:
    """The host object; fields that Go would leave out as empty are left out."""
    document: Object = {
        "kind": host.kind,
        "id": host.id,
        "href": f"{API_PREFIX}/v2/infra-envs/{host.infra_env_id}/hosts/{host.id}",
        "infra_env_id": host.infra_env_id,
        "status": host.status,
        "status_info": host.status_info,
        "status_updated_at": timestamp(host.status_updated_at_s),
        "registered_at": timestamp(host.registered_at_s),
        "checked_in_at": timestamp(host.checked_in_at_s),
        "created_at": timestamp(host.created_at_s),
        "updated_at": timestamp(host.updated_at_s),
        "role": host.role,
        "progress": _progress(host),
        "progress_stages": list(WORKER_STAGES) if host.cluster_id else [],
    }
    optional: dict[str, Any] = {
        "cluster_id": host.cluster_id,
        "discovery_agent_version": host.agent_version,
        "inventory": host.inventory.text if host.inventory else "",
        "validations_info": host.validations_text,
        "requested_hostname": host.requested_hostname,
        "suggested_role": host.suggested_role,
        "installation_disk_id": host.installation_disk_id,
        "installation_disk_path": host.installation_disk_path,
        "machine_config_pool_name": host.machine_config_pool,
        "installer_args": host.installer_args,
        "ignition_config_overrides": host.ignition_overrides,
    }
    document.update({name: value for name, value in optional.items() if value})
    return document


def _progress(host: Host) -> Object:
    if not host.stage:
        return {}
    shown: Object = {
        "current_stage": host.stage,
        "installation_percentage": percentage(host.stage),
        "stage_started_at": timestamp(host.stage_started_at_s),
        "stage_updated_at": timestamp(host.stage_updated_at_s),
    }
    if host.progress_info:
        shown["progress_info"] = host.progress_info
    return shown


def cluster_document(cluster: Cluster) -> Object:
    return {
        "kind": cluster.kind,
        "id": cluster.id,
        "href": f"{API_PREFIX}/v2/clusters/{cluster.id}",
        "name": cluster.cluster_name,
        "base_dns_domain": cluster.base_domain,
        "api_vip_dns_name": f"api.{cluster.cluster_name}.{cluster.base_domain}",
        "status": cluster.status,
        "status_info": cluster.status_info,
        "imported": True,
        "platform": {"type": "baremetal"},
        "user_managed_networking": cluster.user_managed_networking,
        "host_count": len(cluster.host_keys),
    }


def infra_env_document(row: InfraEnv, settings: CimSettings) -> Object:
    document: Object = {
        "kind": "InfraEnv",
        "id": row.id,
        "href": f"{API_PREFIX}/v2/infra-envs/{row.id}",
        "name": row.name,
        "type": row.image_type,
        "openshift_version": row.openshift_version,
        "cpu_architecture": row.cpu_architecture,
        "download_url": row.download_url,
        "pull_secret_set": bool(row.pull_secret),
        "proxy": dict(row.proxy),
        "size_bytes": settings.base_image.path.stat().st_size if settings.base_image is not None else 0,
        "updated_at": timestamp(row.updated_at_s),
    }
    if row.kernel_arguments:
        arguments = [{"operation": "append", "value": value} for value in row.kernel_arguments]
        document["kernel_arguments"] = orjson.dumps(arguments).decode()
    if row.cluster_id:
        document["cluster_id"] = row.cluster_id
    return document
