"""What a running lab tells of its names: the records, who serves them, a hosted cluster's kubeconfig for people."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlsplit

import yaml

from labsim.controllers.hypershift.kubeconfigs import url_host
from labsim.errors import LabError, NothingSelected
from labsim.lab.lab import Lab
from labsim.lab.lab_names import HUB_OWNER
from labsim.model.kinds import HOSTED_CLUSTER, SECRET
from labsim.model.objects import dig, name_of, namespace_of


def names_of(lab: Lab) -> dict[str, Any]:
    """The records that the lab's machines need and the server that has them."""
    zone, serving = lab.world.fabric.zone, lab.serving
    hub = zone.wanted_by(HUB_OWNER)
    return {
        "server": "" if serving is None else serving.name_server.host,
        "port": 0 if serving is None else serving.name_server.port,
        "leftOut": sorted(zone.left_out),
        "records": [
            {"name": record.name, "address": record.address, "ofHub": record in hub} for record in zone.wanted()
        ],
    }


def published_by(lab: Lab) -> list[dict[str, Any]]:
    """What the lab's hosted clusters publish now, and the addresses that machines find it at."""
    return [
        {
            "cluster": endpoint.owner.partition("/")[2],
            "service": endpoint.service,
            "host": endpoint.host,
            "port": endpoint.port,
            "address": ", ".join(lab.world.fabric.zone.resolve(endpoint.host)),
        }
        for endpoint in lab.world.fabric.endpoints()
        if endpoint.certificate_pem
    ]


def hosted_kubeconfig(lab: Lab, cluster: str) -> str:
    """The administrator's kubeconfig of a hosted cluster for somebody on this host, whose resolver does not know the
    lab's names: the address in place of the name, and the name for the certificate."""
    found = [entry for entry in lab.hub.list(HOSTED_CLUSTER) if name_of(entry) == cluster]
    if not found:
        known = sorted(name_of(entry) for entry in lab.hub.list(HOSTED_CLUSTER))
        raise NothingSelected(
            f"there is no hosted cluster {cluster!r}", hint=f"hosted clusters: {', '.join(known) or 'none yet'}"
        )
    name = dig(found[0], "status", "kubeconfig", "name", default="")
    secret = lab.hub.get(SECRET, namespace_of(found[0]), name) if name else None
    text = base64.b64decode(dig(secret, "data", "kubeconfig", default="")).decode()
    if not text:
        hint = f"labsim get hostedclusters {cluster} shows how far it is"
        raise LabError(f"hosted cluster {cluster!r} has no kubeconfig yet", hint=hint)
    document = yaml.safe_load(text)
    for entry in document["clusters"]:
        url = urlsplit(entry["cluster"]["server"])
        if lab.serving is not None and url.hostname:
            entry["cluster"]["server"] = f"https://{url_host(lab.serving.reached_at(url.hostname))}:{url.port or 443}"
            entry["cluster"]["tls-server-name"] = url.hostname
    rendered: str = yaml.safe_dump(document, sort_keys=False)
    return rendered
