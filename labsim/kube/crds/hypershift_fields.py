"""Pieces of schema that HostedCluster, HostedControlPlane and NodePool have in common."""

from __future__ import annotations

from typing import Any

from labsim.kube.crds.builder import Schema, enum, open_obj, rule, string


def rules(*entries: Schema) -> dict[str, Any]:
    return {"x-kubernetes-validations": list(entries)}


def immutable(message: str) -> dict[str, Any]:
    return rules(rule("self == oldSelf", message))


def image() -> Schema:
    text = "Image must start with a word character (letters, digits, or underscores) and contain no white spaces"
    return string(minLength=1, maxLength=253, **rules(rule(r"self.matches('^(\\w+\\S+)$')", text)))


def release() -> Schema:
    return open_obj({"image": image()}, required=["image"])


def name_reference() -> Schema:
    return open_obj({"name": string(default="")})


def platform(agent: Schema) -> Schema:
    kinds = ("AWS", "Azure", "IBMCloud", "KubeVirt", "Agent", "PowerVS", "None", "OpenStack", "GCP")
    return open_obj({"type": enum(*kinds, **immutable("Type is immutable")), "agent": agent}, required=["type"])
