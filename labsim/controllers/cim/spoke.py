"""The cluster that a host joins, seen through its kubeconfig: Node, CSRs, stages (cim-resources 3.10)."""

from __future__ import annotations

from collections.abc import Iterable

from labsim.controllers.cim.csr_matching import ApprovedCsr, csr_kind, csr_names, is_approved
from labsim.controllers.cim.host_states import DONE_STAGE
from labsim.controllers.cim.kubeconfig_text import with_server
from labsim.controllers.cim.rows import Host
from labsim.controllers.cim.secrets_access import read_secret, secret_text
from labsim.controllers.runtime.effects import Program, delete, get, list_all, patch, update
from labsim.kube.errors import ApiError
from labsim.model.kinds import CERTIFICATE_SIGNING_REQUEST, NODE
from labsim.model.objects import Object, condition_status, dig, labels_of, name_of, namespace_of, thaw, timestamp

AGENT_CLUSTER_LABEL = "agentClusterRef"
CSR_STAGES = ("Rebooting", "Joined")
WATCHED_STAGES = ("Rebooting", "Configuring", "Joined")
PENDING_USER_ACTION = "installing-pending-user-action"
RECOVERED = "recovered after installing-pending-user-action timeout — node joined spoke cluster"


class SpokeError(Exception):
    """The cluster cannot be asked now. `gone` says that its kubeconfig does not exist (any more)."""

    def __init__(self, message: str, *, gone: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.gone = gone


class CsrIndex:
    """Which requests of a hosted cluster name which node, kept by following them.

    Upstream lists all requests once a minute for each agent, which for a thousand agents of one cluster is a million
    reads of what an index says at once. A cluster that nothing is followed of is listed as upstream does.
    """

    def __init__(self) -> None:
        self._by_node: dict[tuple[str, str], dict[str, None]] = {}
        self._followed: set[str] = set()

    def seen(self, before: Object | None, after: Object | None, owner: str) -> bool:
        """A watch's `when`: notes the request, and wakes nobody."""
        namespace = owner.partition("/")[0]
        self._followed.add(namespace)
        request = after if after is not None else before
        if request is not None:
            for node in csr_names(request):
                names = self._by_node.setdefault((namespace, node), {})
                if after is None:
                    names.pop(name_of(request), None)
                else:
                    names[name_of(request)] = None
        return False

    def names(self, namespace: str, node: str) -> Iterable[str] | None:
        """The requests for a node of the cluster of a control-plane namespace; None where nobody follows them."""
        if namespace not in self._followed:
            return None
        return sorted(self._by_node.get((namespace, node.lower()), ()))


def spoke_kubeconfig(cluster_deployment: Object) -> Program[str]:
    """The kubeconfig of a ClusterDeployment's cluster. Raises SpokeError where there is none."""
    namespace = namespace_of(cluster_deployment)
    name = dig(cluster_deployment, "spec", "clusterMetadata", "adminKubeconfigSecretRef", "name")
    name = name or f"{name_of(cluster_deployment)}-admin-kubeconfig"
    secret = yield from read_secret(namespace, name)
    if secret is None:
        raise SpokeError(f'failed to get kubeconfig secret: secrets "{name}" not found', gone=True)
    text = secret_text(secret, "kubeconfig")
    if text is None:
        raise SpokeError(f"Secret {namespace}/{name} does not contain 'kubeconfig'")
    if AGENT_CLUSTER_LABEL in labels_of(cluster_deployment):
        # From inside the hub the hosted API server is reached by its Service.
        text = with_server(text, f"https://kube-apiserver.{namespace}.svc:6443")
    return text


def node_is_ready(node: Object) -> bool:
    return condition_status(node, "Ready") == "True"


def reported_progress(host: Host, node: Object | None, *, csrs_handled: bool) -> tuple[str, str] | None:
    """(stage, info) that the spoke shows; None where the stage stays as it was reported."""
    if node is None:
        return None
    if not node_is_ready(node):
        return None if host.status == PENDING_USER_ACTION else ("Joined", "")
    if host.status == PENDING_USER_ACTION and host.stage != DONE_STAGE:
        return DONE_STAGE, RECOVERED
    return (DONE_STAGE, "") if csrs_handled else ("Joined", "")


def is_watched(host: Host) -> bool:
    """Whether the Agent controller owns the host's progress now."""
    return bool(host.cluster_id) and (
        (host.status == "installing-in-progress" and host.stage in WATCHED_STAGES)
        or (host.status == PENDING_USER_ACTION and host.stage != DONE_STAGE)
        or (host.status == "installed" and host.stage != DONE_STAGE)
    )


def needs_csrs(host: Host) -> bool:
    return host.stage in CSR_STAGES or host.status == PENDING_USER_ACTION


def handle_csrs(
    index: CsrIndex, namespace: str, kubeconfig: str, hostname: str, node: Object | None, status: Object, now_s: float
) -> Program[bool]:
    """Approve the node's requests and note whose were approved; whether one of each type is.

    `status` is the Agent's, whose csrStatus is brought up to date.
    """
    known = [dict(entry) for entry in dig(status, "csrStatus", "approvedCSRs", default=())]
    if _both(known):
        return True
    requests = yield from _requests(index, namespace, kubeconfig, hostname)
    attempted = False
    for request in requests:
        kind = csr_kind(request, hostname, node)
        if kind is None or any(entry["name"] == name_of(request) for entry in known):
            continue
        if not is_approved(request):
            attempted = True
            try:
                yield from _approve(request, kubeconfig, now_s)
            except ApiError:
                continue
        known.append(ApprovedCsr(name_of(request), kind, timestamp(now_s)).document())
    if attempted or known != dig(status, "csrStatus", "approvedCSRs", default=[]):
        csr_status: Object = {**(status.get("csrStatus") or {}), "approvedCSRs": known}
        if attempted:
            csr_status["lastApprovalAttempt"] = timestamp(now_s)
        status["csrStatus"] = csr_status
    return _both(known)


def _both(entries: list[Object]) -> bool:
    return {"client", "serving"} <= {entry["type"] for entry in entries}


def _requests(index: CsrIndex, namespace: str, kubeconfig: str, hostname: str) -> Program[list[Object]]:
    names = index.names(namespace, hostname)
    if names is None:
        return (yield from list_all(CERTIFICATE_SIGNING_REQUEST, at=kubeconfig))
    found: list[Object] = []
    for name in names:
        request = yield from get(CERTIFICATE_SIGNING_REQUEST, "", name, at=kubeconfig)
        if request is not None:
            found.append(request)
    return found


def _approve(request: Object, kubeconfig: str, now_s: float) -> Program[None]:
    approved = thaw(request)
    moment = timestamp(now_s)
    approved.setdefault("status", {}).setdefault("conditions", []).append(
        {
            "type": "Approved",
            "status": "True",
            "reason": "NodeCSRApprove",
            "message": "This CSR was approved by the assisted-service",
            "lastUpdateTime": moment,
            "lastTransitionTime": moment,
        }
    )
    yield from update(approved, CERTIFICATE_SIGNING_REQUEST, subresource="approval", at=kubeconfig)


def label_node(node: Object, labels: dict[str, str], kubeconfig: str) -> Program[None]:
    """Merge the Agent's nodeLabels onto the Node, where they are not there yet."""
    present = labels_of(node)
    missing = {key: value for key, value in labels.items() if present.get(key) != value}
    if missing:
        yield from patch(NODE, "", name_of(node), {"metadata": {"labels": missing}}, at=kubeconfig)


def remove_node(cluster_deployment: Object | None, node_name: str) -> Program[None]:
    """Delete a Node of the spoke. A kubeconfig that is gone, or a Node that is, counts as done.

    Raises SpokeError, ApiError or Unreachable where the cluster cannot be asked.
    """
    if cluster_deployment is None or not node_name:
        return
    try:
        kubeconfig = yield from spoke_kubeconfig(cluster_deployment)
    except SpokeError as error:
        if error.gone:
            return
        raise
    yield from delete(NODE, "", node_name, at=kubeconfig)
