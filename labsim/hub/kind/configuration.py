"""The file that `kind create cluster` reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

LOOPBACK = "127.0.0.1"


def configuration(name: str, *, image: str = "", node_ports: Sequence[int] = ()) -> str:
    """One node. `image`: of the node, "" for kind's own; `node_ports`: node ports of Services in the cluster that are
    mapped to the same ports of this host's loopback address.

    What labsim simulates listens in labsim's own process, at the very node ports that the cluster hands out; those
    must not be mapped, or the host's ports would be taken. `node_ports` is for what somebody runs in the cluster.
    """
    node: dict[str, Any] = {"role": "control-plane"}
    if image:
        node["image"] = image
    if node_ports:
        node["extraPortMappings"] = [
            {"containerPort": port, "hostPort": port, "listenAddress": LOOPBACK, "protocol": "TCP"}
            for port in node_ports
        ]
    document = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": name,
        "networking": {"apiServerAddress": LOOPBACK},
        "nodes": [node],
    }
    return yaml.safe_dump(document, sort_keys=False)
