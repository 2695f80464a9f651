"""The documentation's layout: agents, their InfraEnv and its pull secret live in the control plane's namespace."""

from __future__ import annotations

import base64

from hypershift_hub import PLACE, Hub

from labsim.model.kinds import HOSTED_CLUSTER, NAMESPACE, SECRET
from labsim.model.objects import new


def test_a_pull_secret_of_an_infra_env_is_not_in_the_way_of_the_clusters() -> None:
    hub = Hub()
    hub.add_storage_class()
    hub.server.create(new(NAMESPACE, None, PLACE), NAMESPACE)
    data = {".dockerconfigjson": base64.b64encode(b'{"auths":{}}').decode()}
    mine = new(SECRET, PLACE, "pull-secret", type="kubernetes.io/dockerconfigjson", data=data)
    hub.server.create(mine, SECRET)
    hub.create_cluster()
    hub.run_for(400)
    assert hub.says(HOSTED_CLUSTER, "clusters", "example", "ReconciliationSucceeded")[0] == "True"
    assert hub.says(HOSTED_CLUSTER, "clusters", "example", "Available")[0] == "True"
