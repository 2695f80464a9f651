"""The objects that a lab creates on its hub before its machines boot."""

from __future__ import annotations

import base64

import orjson

from labsim.entropy import Entropy
from labsim.model.kinds import AGENT_SERVICE_CONFIG, INFRA_ENV, NAMESPACE, SECRET, STORAGE_CLASS
from labsim.model.objects import Object, annotations_of, new
from labsim.model.scenario import InfraEnvSpec

_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
LAB_LABEL = "labsim.dev/lab"
PULL_SECRET = "pull-secret"  # noqa: S105  (the object's name)


def namespace(name: str, lab: str) -> Object:
    obj = new(NAMESPACE, None, name)
    obj["metadata"]["labels"] = {LAB_LABEL: lab}
    return obj


def pull_secret_text(entropy: Entropy) -> str:
    """A well-formed pull secret that no registry knows."""
    password = entropy.text("pull-secret", 24)
    auth = base64.b64encode(f"labsim:{password}".encode()).decode()
    return orjson.dumps({"auths": {"quay.io": {"auth": auth}, "registry.redhat.io": {"auth": auth}}}).decode()


def pull_secret(in_namespace: str, text: str, lab: str) -> Object:
    obj = new(SECRET, in_namespace, PULL_SECRET, type="kubernetes.io/dockerconfigjson")
    obj["metadata"]["labels"] = {LAB_LABEL: lab}
    obj["data"] = {".dockerconfigjson": base64.b64encode(text.encode()).decode()}
    return obj


def infra_env(spec: InfraEnvSpec, in_namespace: str, lab: str, ssh_key: str) -> Object:
    """The InfraEnv of a lab: late binding, so that its agents belong to no cluster until they are claimed."""
    obj = new(INFRA_ENV, in_namespace, spec.name)
    obj["metadata"]["labels"] = {LAB_LABEL: lab}
    obj["spec"] = {
        "pullSecretRef": {"name": PULL_SECRET},
        "sshAuthorizedKey": ssh_key,
        "cpuArchitecture": "x86_64",
        "agentLabels": dict(spec.agent_labels),
        "agentApproval": {"autoApprove": spec.auto_approve},
    }
    return obj


def agent_service_config() -> Object:
    """CIM switched on: what an administrator of a hub does once."""

    def claim(size: str) -> Object:
        return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}

    return new(
        AGENT_SERVICE_CONFIG,
        None,
        "agent",
        spec={"databaseStorage": claim("10Gi"), "filesystemStorage": claim("20Gi"), "imageStorage": claim("20Gi")},
    )


def is_default_class(storage_class: Object) -> bool:
    return annotations_of(storage_class).get(_DEFAULT_CLASS) == "true"


def default_storage_class() -> Object:
    """The default class that etcd's claims need."""
    obj = new(STORAGE_CLASS, None, "lvms-vg1", provisioner="topolvm.io", reclaimPolicy="Delete")
    obj["metadata"]["annotations"] = {_DEFAULT_CLASS: "true"}
    obj["volumeBindingMode"] = "WaitForFirstConsumer"
    return obj
