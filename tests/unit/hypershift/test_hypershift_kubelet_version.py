"""A Node has the kubelet of its NodePool's release, as its Machine says."""

from __future__ import annotations

import base64
import binascii
import gzip

import orjson
from hypershift_hub import PLACE, Hub

from labsim.controllers.hypershift.kubeconfigs import secret_text
from labsim.model.kinds import MACHINE_SET, SECRET
from labsim.model.objects import dig, name_of


def test_the_ignition_names_the_kubelet_of_the_release() -> None:
    hub = Hub()
    hub.add_storage_class()
    hub.create_cluster(release_image="quay.io/openshift-release-dev/ocp-release:4.17.3-x86_64", node_pool_replicas=1)
    hub.run_for(300)
    payloads = [
        secret_text(secret, "payload")
        for secret in hub.server.list(SECRET, PLACE)[0]
        if name_of(secret).startswith("token-example-")
    ]
    [document] = [orjson.loads(_unpacked(text)) for text in payloads]
    files = {entry["path"]: entry["contents"]["source"] for entry in document["storage"]["files"]}
    version = base64.b64decode(files["/etc/labsim/kubelet-version"].partition("base64,")[2]).decode().strip()
    assert version == "v1.30.0"
    machines = hub.find(MACHINE_SET, PLACE, "example")
    assert dig(machines, "spec", "template", "spec", "version") == version


def _unpacked(text: str) -> bytes:
    try:
        return gzip.decompress(base64.b64decode(text))
    except (binascii.Error, OSError) as error:
        raise AssertionError(f"no packed payload: {text[:40]}") from error
