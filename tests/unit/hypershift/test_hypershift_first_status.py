"""What the golden timeline found: the first status of a HostedCluster comes before its control plane."""

from __future__ import annotations

from hypershift_hub import Hub

from labsim.kube.store import Revision
from labsim.model.kinds import HOSTED_CLUSTER, HOSTED_CONTROL_PLANE
from labsim.model.objects import condition_of


def test_the_control_plane_is_first_not_found_and_then_says_nothing_yet() -> None:
    hub = Hub()
    hub.add_storage_class()
    messages: dict[str, list[str]] = {"EtcdAvailable": [], "ClusterVersionAvailable": []}
    control_plane_at: list[int] = []

    def note(revision: Revision) -> None:
        for kind, said in messages.items():
            entry = condition_of(revision.object, kind)
            if entry is not None and (not said or said[-1] != entry["message"]):
                said.append(entry["message"])

    hub.server.subscribe(note, HOSTED_CLUSTER)
    hub.server.subscribe(lambda revision: control_plane_at.append(len(messages["EtcdAvailable"])), HOSTED_CONTROL_PLANE)
    hub.create_cluster()
    hub.run_for(5)
    assert messages["EtcdAvailable"][:2] == ["The hosted control plane is not found", "Condition not found in the HCP"]
    assert messages["ClusterVersionAvailable"] == ["Condition not found in the CVO."]
    assert control_plane_at[0] == 1, "the status was not shown before the control plane was made"
