"""Reclaiming: an installed host restarts into discovery by itself, through a pod on its node (cim-resources 3.9)."""

from __future__ import annotations

from labsim.controllers.cim.rows import InfraEnv
from labsim.controllers.cim.settings import CimSettings
from labsim.controllers.runtime.effects import Program, create, get
from labsim.kube.errors import ApiError
from labsim.model.kinds import (
    CONFIG_MAP,
    DAEMON_SET,
    NAMESPACE,
    NODE,
    ROLE,
    ROLE_BINDING,
    SECRET,
    SERVICE_ACCOUNT,
    Kind,
)
from labsim.model.objects import Object, new, owner_reference

SPOKE_NAMESPACE = "assisted-installer"
SERVICE_ACCOUNT_NAME = "node-reclaim"
CONFIG_NAME = "reclaim-config"
TOKEN_KEY = "auth-token"  # noqa: S105  (a key's name)
CA_KEY = "ca.pem"
CA_FOLDER = "/etc/assisted-service"
CA_FILE = "service-ca-cert.crt"


class ReclaimImpossible(Exception):
    """The host cannot be reclaimed; it is unbound plainly instead, and only the log says why."""


def prepare_reclaim(
    settings: CimSettings, infra_env: InfraEnv, host_id: str, node_name: str, token: str, kubeconfig: str
) -> Program[None]:
    """Create what reclaims a host on its cluster. Namespace, RBAC and Secret come before the Node is looked for.

    Raises ReclaimImpossible, ApiError or Unreachable.
    """
    for obj, kind in _prerequisites(settings, infra_env, token):
        yield from _ensure(obj, kind, kubeconfig)
    node = yield from get(NODE, "", node_name, at=kubeconfig)
    if node is None:
        raise ReclaimImpossible(f'failed to get node {node_name}: nodes "{node_name}" not found')
    yield from _ensure(_daemon_set(settings, infra_env, host_id, node, bool(settings.ca_pem)), DAEMON_SET, kubeconfig)


def _ensure(obj: Object, kind: Kind, kubeconfig: str) -> Program[None]:
    try:
        yield from create(obj, kind, at=kubeconfig)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


def _prerequisites(settings: CimSettings, infra_env: InfraEnv, token: str) -> list[tuple[Object, Kind]]:
    namespace = new(NAMESPACE, None, SPOKE_NAMESPACE)
    namespace["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "privileged"}
    rules = [
        {
            "apiGroups": ["security.openshift.io"],
            "resources": ["securitycontextconstraints"],
            "resourceNames": ["privileged"],
            "verbs": ["use"],
        }
    ]
    binding = new(
        ROLE_BINDING,
        SPOKE_NAMESPACE,
        SERVICE_ACCOUNT_NAME,
        roleRef={"apiGroup": ROLE.group, "kind": "Role", "name": SERVICE_ACCOUNT_NAME},
        subjects=[{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT_NAME, "namespace": SPOKE_NAMESPACE}],
    )
    secret = new(SECRET, SPOKE_NAMESPACE, token_secret_name(infra_env.id), stringData={TOKEN_KEY: token}, type="Opaque")
    made: list[tuple[Object, Kind]] = [
        (namespace, NAMESPACE),
        (new(SERVICE_ACCOUNT, SPOKE_NAMESPACE, SERVICE_ACCOUNT_NAME), SERVICE_ACCOUNT),
        (new(ROLE, SPOKE_NAMESPACE, SERVICE_ACCOUNT_NAME, rules=rules), ROLE),
        (binding, ROLE_BINDING),
        (secret, SECRET),
    ]
    if settings.ca_pem:
        made.append((new(CONFIG_MAP, SPOKE_NAMESPACE, CONFIG_NAME, data={CA_KEY: settings.ca_pem}), CONFIG_MAP))
    return made


def token_secret_name(infra_env_id: str) -> str:
    return f"reclaim-{infra_env_id}-token"


def daemon_set_name(node_name: str) -> str:
    return f"{node_name.replace('.', '-')}-reclaim"


def _command(settings: CimSettings, infra_env: InfraEnv, host_id: str) -> list[str]:
    words = [
        "next_step_runner",
        f"-url={settings.service_base_url}",
        f"-infra-env-id={infra_env.id}",
        f"-host-id={host_id}",
        f"-agent-version={settings.agent_image}",
        "-insecure=false",
        "-with-journal-logging=false",
        "-with-stdout-logging=true",
    ]
    if settings.ca_pem:
        words.append(f"-cacert={CA_FOLDER}/{CA_FILE}")
    return words


def _daemon_set(settings: CimSettings, infra_env: InfraEnv, host_id: str, node: Object, has_ca: bool) -> Object:
    node_name = str(node["metadata"]["name"])
    name = daemon_set_name(node_name)
    mounts: list[Object] = [{"name": "host", "mountPath": "/host"}]
    volumes: list[Object] = [{"name": "host", "hostPath": {"path": "/", "type": "Directory"}}]
    if has_ca:
        mounts.append({"name": "ca-cert", "mountPath": CA_FOLDER})
        items = [{"key": CA_KEY, "path": CA_FILE}]
        volumes.append({"name": "ca-cert", "configMap": {"name": CONFIG_NAME, "items": items}})
    token = {"secretKeyRef": {"name": token_secret_name(infra_env.id), "key": TOKEN_KEY}}
    container: Object = {
        "name": "reclaim",
        "image": settings.agent_image,
        "command": _command(settings, infra_env, host_id),
        "env": [{"name": "PULL_SECRET_TOKEN", "valueFrom": token}],
        "securityContext": {"privileged": True, "runAsUser": 0},
        "volumeMounts": mounts,
    }
    hostname = (node["metadata"].get("labels") or {}).get("kubernetes.io/hostname", node_name)
    labels = {"name": name}
    obj = new(
        DAEMON_SET,
        SPOKE_NAMESPACE,
        name,
        spec={
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [container],
                    "hostPID": True,
                    "nodeSelector": {"kubernetes.io/hostname": hostname},
                    "priorityClassName": "system-node-critical",
                    "serviceAccountName": SERVICE_ACCOUNT_NAME,
                    "tolerations": [{"operator": "Exists"}],
                    "volumes": volumes,
                },
            },
        },
    )
    obj["metadata"]["ownerReferences"] = [owner_reference(node)]
    return obj
