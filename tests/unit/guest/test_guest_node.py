"""The installed machine: Ignition from its pointer, CSRs, Node, heartbeats, pods, reboots and reclaim."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import urllib.parse
from typing import Any

import pytest
from guest_carrier import UUID, Carrier, answer
from test_guest_agent import HOSTS, INFRA_ENV, data_url, poll, step
from test_guest_install import ARTIFACTS

from labsim.guest import effects as fx
from labsim.guest.effects import Boot, ConnectionFailed, HttpAnswer
from labsim.guest.ignition import decode_data_url, merge
from labsim.guest.kubeconfig import read_kubeconfig
from labsim.guest.main import run

NODE = "worker-a"
KUBECONFIG = f"""apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {base64.b64encode(b"API CA").decode()}
    server: "https://api.example.com:6443"
  name: cluster
contexts:
- context:
    cluster: cluster
    user: kubelet
  name: kubelet
current-context: kubelet
kind: Config
preferences: {{}}
users:
- name: kubelet
  user:
    token: bootstrap-token
"""


def boot() -> Boot:
    source = {
        "source": "https://ign.example.com/ignition",
        "httpHeaders": [{"name": "Authorization", "value": "Bearer dG9r"}],
    }
    pointer = {
        "ignition": {
            "version": "3.2.0",
            "config": {"merge": [source]},
            "security": {"tls": {"certificateAuthorities": [{"source": data_url("IGN CA")}]}},
        },
        "storage": {"files": [{"path": "/etc/hostname", "contents": {"source": f"data:,{NODE}"}}]},
    }
    return Boot("disk", json.dumps(pointer).encode())


def packed(text: str) -> dict[str, str]:
    raw = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    return {"source": f"data:;base64,{raw}", "compression": "gzip"}


PAYLOAD = {
    "ignition": {"version": "3.2.0"},
    "storage": {"files": [{"path": "/etc/kubernetes/kubeconfig", "contents": packed(KUBECONFIG), "mode": 0o600}]},
    "systemd": {"units": [{"name": "kubelet.service", "enabled": True, "contents": "[Service]\nExecStart=kubelet\n"}]},
}


class HostedCluster:
    """Ignition server and API server in one, as small as the kubelet lets it be. Certificates on request."""

    def __init__(self) -> None:
        self.ignition: list[HttpAnswer | Exception] = []
        self.csrs: dict[str, dict[str, Any]] = {}
        self.approve = True
        self.node: dict[str, Any] | None = None
        self.lease: dict[str, Any] | None = None
        self.pods: list[dict[str, Any]] = []
        self.watch_parts: list[bytes | Exception] = []  # what the next watch says before it shows the pods
        self.created_nodes = 0
        self.cim_polls: list[dict[str, Any]] = []
        self.cim_replies: list[dict[str, Any]] = []

    def __call__(self, request: fx.Http) -> HttpAnswer | Exception:
        url = urllib.parse.urlsplit(request.url)
        if url.hostname == "ign.example.com":
            return self.ignition.pop(0) if self.ignition else answer(200, PAYLOAD)
        if url.hostname == "img.example.com":
            return answer(200, b"ARTIFACT")
        if url.hostname == "cim.example.com":
            if request.method == "POST":
                self.cim_replies.append(json.loads(request.body))
                return answer(204)
            return answer(200, self.cim_polls.pop(0) if self.cim_polls else poll())
        if request.follow:
            return self._watch()
        body = json.loads(request.body) if request.body else {}
        if "/certificatesigningrequests" in url.path:
            return self._csr(request, url.path, body)
        if "/leases" in url.path:
            return self._lease(request.method, body)
        if "/nodes" in url.path:
            return self._node(request.method, body)
        return self._pods(request.method, url.path, body)

    def _csr(self, request: fx.Http, path: str, body: dict[str, Any]) -> HttpAnswer:
        if request.method == "POST":
            name = f"csr-{len(self.csrs)}"
            identity = request.headers.get("Authorization") or request.client_cert_pem
            self.csrs[name] = {**body, "metadata": {"name": name}, "by": identity}
            return answer(201, self.csrs[name])
        csr = self.csrs.get(path.rsplit("/", 1)[1])
        if csr is None:
            return answer(404, {"message": "gone"})
        if self.approve:
            pem = f"-----BEGIN CERTIFICATE-----\n{csr['metadata']['name']}\n-----END CERTIFICATE-----\n"
            csr["status"] = {"certificate": base64.b64encode(pem.encode()).decode()}
        return answer(200, csr)

    def _lease(self, method: str, body: dict[str, Any]) -> HttpAnswer:
        if method == "POST":
            self.lease = body
        elif self.lease is None:
            return answer(404, {"message": "no lease"})
        else:
            self.lease["spec"] |= body["spec"]
        return answer(200, self.lease)

    def _node(self, method: str, body: dict[str, Any]) -> HttpAnswer:
        if method == "POST":
            if self.node is not None:
                return answer(409, {"message": "exists"})
            self.node = body
            self.created_nodes += 1
        elif self.node is None:
            return answer(404, {"message": "no node"})
        elif method == "PATCH":
            self.node["status"] = body["status"]
        return answer(200, self.node)

    def _pods(self, method: str, path: str, body: dict[str, Any]) -> HttpAnswer:
        if path == "/api/v1/pods":
            return answer(200, {"metadata": {"resourceVersion": "7"}, "items": self.pods})
        if "/secrets/" in path:
            return answer(200, {"data": {"auth-token": base64.b64encode(b"jwt").decode()}})
        if "/configmaps/" in path:
            return answer(200, {"data": {"ca.crt": "CIM CA"}})
        name = path.removesuffix("/status").rsplit("/", 1)[1]
        pod = next((pod for pod in self.pods if pod["metadata"]["name"] == name), None)
        if pod is None:
            return answer(404, {"message": "no pod"})
        if method == "DELETE":
            self.pods.remove(pod)
        else:
            pod["status"] = body["status"]
        return answer(200, pod)

    def _watch(self) -> HttpAnswer:
        """The events of pods from now on."""
        parts, self.watch_parts = self.watch_parts, []
        told = self._pod_texts()

        def next_part() -> bytes | Exception | None:
            if parts:
                return parts.pop(0)
            before, now = dict(told), self._pod_texts()
            told.clear()
            told.update(now)
            events = [("DELETED", text) for uid, text in before.items() if uid not in now]
            events += [("MODIFIED" if uid in before else "ADDED", text)
                       for uid, text in now.items() if text != before.get(uid)]  # fmt: skip
            return "".join(f'{{"type":"{event}","object":{text}}}\n' for event, text in events).encode() or None

        return HttpAnswer(200, {}, b"", next_part)

    def _pod_texts(self) -> dict[str, str]:
        return {
            pod["metadata"]["uid"]: json.dumps({**pod, "metadata": {**pod["metadata"], "resourceVersion": "8"}})
            for pod in self.pods
        }

    @property
    def ready(self) -> dict[str, Any]:
        assert self.node is not None
        conditions: list[dict[str, Any]] = self.node["status"]["conditions"]
        return next(condition for condition in conditions if condition["type"] == "Ready")


def joined(cluster: HostedCluster, seconds: float = 30) -> Carrier:
    carrier = Carrier(cluster)
    carrier.start(run(boot()))
    carrier.run_for(seconds)
    return carrier


def test_the_pointer_is_followed_with_its_headers_and_ca_until_it_answers() -> None:
    cluster = HostedCluster()
    cluster.ignition = [ConnectionFailed("refused"), *[answer(511, b"Token not found")] * 9]
    carrier = joined(cluster, 60)
    fetches = carrier.seen("GET", "ign.example.com")
    assert len(fetches) == 11
    assert fetches[0].headers["Authorization"] == "Bearer dG9r"
    assert fetches[0].ca_pem.strip() == "IGN CA"
    times = carrier.seen_at("GET", "ign.example.com")
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) == 5
    assert carrier.files["/etc/hostname"] == NODE.encode()
    assert carrier.files["/etc/kubernetes/kubeconfig"].decode() == KUBECONFIG


def test_a_refused_ignition_stops_the_machine_in_its_emergency_shell() -> None:
    cluster = HostedCluster()
    cluster.ignition = [answer(401)]
    carrier = joined(cluster, 4000)
    assert len(carrier.requests) == 1
    assert any("401" in line for line in carrier.logged)


def test_the_join_by_two_certificate_requests() -> None:
    cluster = HostedCluster()
    joined(cluster)
    client, serving = (cluster.csrs[f"csr-{number}"] for number in range(2))
    assert client["by"] == "Bearer bootstrap-token"
    assert client["spec"]["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet"
    assert client["spec"]["usages"] == ["digital signature", "client auth"]
    assert base64.b64decode(client["spec"]["request"]) == b"CSR system:node:worker-a ('system:nodes',) () ()"
    assert "csr-0" in serving["by"]
    assert serving["spec"]["signerName"] == "kubernetes.io/kubelet-serving"
    assert serving["spec"]["usages"] == ["digital signature", "server auth"]
    assert (
        base64.b64decode(serving["spec"]["request"])
        == b"CSR system:node:worker-a ('system:nodes',) ('worker-a',) ('192.168.126.21',)"
    )


def test_the_node_is_not_ready_first_and_ready_after_the_network() -> None:
    cluster = HostedCluster()
    carrier = joined(cluster)
    assert cluster.node is not None
    assert cluster.ready["status"] == "False"
    assert cluster.ready["reason"] == "KubeletNotReady"
    labels = cluster.node["metadata"]["labels"]
    assert labels["kubernetes.io/hostname"] == NODE
    assert labels["node-role.kubernetes.io/worker"] == ""
    assert cluster.node["status"]["addresses"] == [
        {"type": "InternalIP", "address": "192.168.126.21"},
        {"type": "Hostname", "address": NODE},
    ]
    assert cluster.node["status"]["capacity"]["cpu"] == "8"
    carrier.run_for(240)
    assert cluster.ready["status"] == "True"
    assert cluster.ready["reason"] == "KubeletReady"


def test_the_lease_is_renewed_every_ten_seconds() -> None:
    cluster = HostedCluster()
    carrier = joined(cluster)
    before = len(carrier.seen("PATCH", "/leases/"))
    carrier.run_for(100)
    assert len(carrier.seen("PATCH", "/leases/")) - before == 10
    assert cluster.lease is not None
    assert cluster.lease["spec"]["holderIdentity"] == NODE
    assert cluster.lease["spec"]["renewTime"].endswith("Z")


def test_a_request_that_disappears_or_is_denied_is_made_again() -> None:
    cluster = HostedCluster()
    cluster.approve = False
    carrier = joined(cluster)
    assert list(cluster.csrs) == ["csr-0"]
    cluster.csrs["csr-0"]["status"] = {"conditions": [{"type": "Denied", "status": "True"}]}
    carrier.run_for(60)
    assert list(cluster.csrs) == ["csr-0", "csr-1"]
    cluster.approve = True
    carrier.run_for(60)
    assert cluster.node is not None


def test_a_reboot_keeps_certificates_and_does_not_fetch_again() -> None:
    cluster = HostedCluster()
    carrier = joined(cluster, 300)
    carrier.boot_again()
    carrier.requests.clear()
    carrier.start(run(boot()))
    carrier.run_for(400)
    assert carrier.seen("GET", "ign.example.com") == []
    assert carrier.seen("POST", "/certificatesigningrequests") == []
    assert cluster.created_nodes == 1
    assert cluster.ready["status"] == "True"


def test_a_request_that_waits_survives_a_reboot() -> None:
    cluster = HostedCluster()
    cluster.approve = False
    carrier = joined(cluster)
    carrier.boot_again()
    carrier.start(run(boot()))
    carrier.run_for(30)
    cluster.approve = True
    carrier.run_for(30)
    assert list(cluster.csrs) == ["csr-0", "csr-1"]
    assert "kubelet-serving" in cluster.csrs["csr-1"]["spec"]["signerName"]


def test_a_deleted_node_comes_back_only_at_the_next_start() -> None:
    cluster = HostedCluster()
    carrier = joined(cluster, 300)
    cluster.node = cluster.lease = None
    carrier.run_for(2000)
    assert cluster.node is None
    renewals = len(carrier.seen("PATCH", "/leases/"))
    carrier.run_for(2000)
    assert len(carrier.seen("PATCH", "/leases/")) == renewals
    carrier.boot_again()
    carrier.start(run(boot()))
    carrier.run_for(10)
    assert cluster.node is not None


def test_an_api_that_is_away_is_waited_for() -> None:
    class Flaky(HostedCluster):
        away = False

        def __call__(self, request: fx.Http) -> HttpAnswer | Exception:
            if self.away and "api.example.com" in request.url:
                return ConnectionFailed("refused")
            return super().__call__(request)

    cluster = Flaky()
    cluster.away = True
    carrier = joined(cluster, 600)
    assert cluster.csrs == {}
    cluster.away = False
    carrier.run_for(400)
    assert cluster.ready["status"] == "True"
    cluster.away = True
    carrier.run_for(100)
    cluster.ready["status"] = "Unknown"
    cluster.away = False
    carrier.run_for(15)
    assert cluster.ready["status"] == "True"


def pod(name: str, *command: str, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "assisted-installer", "uid": f"uid-{name}"},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "i", "command": list(command), **spec}]},
    }


def test_an_ordinary_pod_is_reported_running_and_goes_when_deleted() -> None:
    cluster = HostedCluster()
    cluster.pods = [pod("web", "httpd")]
    carrier = joined(cluster)
    assert cluster.pods[0]["status"]["phase"] == "Running"
    assert cluster.pods[0]["status"]["containerStatuses"][0]["ready"] is True
    assert len(carrier.seen("PATCH", "/pods/web/status")) == 1
    cluster.pods[0]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    carrier.run_for(20)
    assert cluster.pods == []
    assert json.loads(carrier.seen("DELETE", "/pods/web")[0].body)["gracePeriodSeconds"] == 0


def test_a_pod_that_cannot_be_removed_is_tried_again_although_the_list_stays_the_same() -> None:
    class Stubborn(HostedCluster):
        refusing = True

        def __call__(self, request: fx.Http) -> HttpAnswer | Exception:
            if self.refusing and request.method == "DELETE":
                return answer(500, {"message": "etcdserver: request timed out"})
            return super().__call__(request)

    cluster = Stubborn()
    cluster.pods = [pod("web", "httpd")]
    carrier = joined(cluster)
    cluster.pods[0]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    carrier.run_for(35)
    assert len(carrier.seen("DELETE", "/pods/web")) > 2
    cluster.refusing = False
    carrier.run_for(10)
    assert cluster.pods == []


def event(kind: str, pod: dict[str, Any], revision: str) -> bytes:
    shown = {**pod, "metadata": {**pod["metadata"], "resourceVersion": revision}}
    return json.dumps({"type": kind, "object": shown}).encode() + b"\n"


def watched_from(carrier: Carrier) -> list[str]:
    """The revision of each watch that was begun."""
    queries = [urllib.parse.parse_qs(urllib.parse.urlsplit(request.url).query)
               for request in carrier.seen("GET", "/api/v1/pods") if request.follow]  # fmt: skip
    return [query["resourceVersion"][0] for query in queries]


def lists(carrier: Carrier) -> int:
    return len([request for request in carrier.seen("GET", "/api/v1/pods") if not request.follow])


def test_pods_are_listed_once_and_then_watched() -> None:
    cluster = HostedCluster()
    carrier = joined(cluster, 300)
    cluster.pods = [pod("web", "httpd")]
    carrier.run_for(5)
    assert cluster.pods[0]["status"]["phase"] == "Running"
    assert lists(carrier) == 1
    (request,) = (found for found in carrier.seen("GET", "/api/v1/pods") if found.follow)
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(request.url).query)
    assert query["fieldSelector"] == [f"spec.nodeName={NODE}"]
    assert 300 <= int(query["timeoutSeconds"][0]) <= 600


def test_a_watch_that_ends_goes_on_from_its_last_event() -> None:
    cluster = HostedCluster()
    first = event("MODIFIED", pod("a", "httpd"), "11")
    cluster.watch_parts = [first[:9], first[9:] + event("BOOKMARK", {"metadata": {}}, "12"), b""]
    carrier = joined(cluster)
    assert watched_from(carrier) == ["7", "12"]
    assert lists(carrier) == 1


@pytest.mark.parametrize(
    "parts",
    [[b'{"type":"ERROR","object":{"code":410}}\n'], [b""], [ConnectionFailed("reset")], [b"no JSON\n"]],
    ids=["too old", "ended at once", "broken off at once", "unreadable"],
)
def test_a_watch_that_goes_wrong_is_followed_by_a_list_after_a_pause(parts: list[bytes | Exception]) -> None:
    cluster = HostedCluster()
    cluster.watch_parts = parts
    carrier = joined(cluster)
    assert watched_from(carrier) == ["7", "7"]
    first, second = (
        when for when, request in carrier.requests if "/api/v1/pods?" in request.url and not request.follow
    )
    assert 0.8 <= second - first <= 1.6


def reclaim_pod() -> dict[str, Any]:
    made = pod(
        "worker-a-reclaim-x",
        "next_step_runner",
        "-url=https://cim.example.com:8090",
        f"-infra-env-id={INFRA_ENV}",
        f"-host-id={UUID}",
        "-agent-version=quay.io/agent:2",
        "-insecure=false",
        "-cacert=/etc/assisted-service/ca.crt",
        env=[
            {
                "name": "PULL_SECRET_TOKEN",
                "valueFrom": {"secretKeyRef": {"name": f"reclaim-{INFRA_ENV}-token", "key": "auth-token"}},
            }
        ],
        volumeMounts=[{"name": "ca", "mountPath": "/etc/assisted-service"}],
    )
    made["spec"]["volumes"] = [{"name": "ca", "configMap": {"name": "reclaim-config"}}]
    return made


def test_the_reclaim_pod_runs_the_step_runner_with_the_nodes_own_rights() -> None:
    cluster = HostedCluster()
    carrier = joined(cluster, 300)
    cluster.pods = [reclaim_pod()]
    cluster.cim_polls = [
        poll(step("download-boot-artifacts", ARTIFACTS)),
        poll(step("reboot-for-reclaim", {"host_fs_mount_dir": "/host"}), wait_s=120, action="exit"),
    ]
    carrier.run_for(30)
    (request,) = carrier.seen("GET", f"{HOSTS}/{UUID}/instructions")
    assert request.headers["X-Secret-Key"] == "jwt"
    assert request.headers["discovery_agent_version"] == "quay.io/agent:2"
    assert request.ca_pem == "CIM CA"
    assert "csr-0" in carrier.seen("GET", "/secrets/")[0].client_cert_pem
    assert cluster.pods[0]["status"]["phase"] == "Running"
    assert cluster.cim_replies[0]["step_type"] == "download-boot-artifacts"
    assert len(carrier.boot_entries) == 1
    assert carrier.reboots == []
    carrier.run_for(60)
    assert [reason for _, reason in carrier.reboots] == ["reclaim"]


def test_a_reclaim_pod_that_goes_away_stops_polling() -> None:
    cluster = HostedCluster()
    carrier = joined(cluster, 300)
    cluster.pods = [reclaim_pod()]
    carrier.run_for(100)
    cluster.pods = []
    carrier.run_for(20)
    polls = len(carrier.seen("GET", "/instructions"))
    assert polls > 0
    carrier.run_for(600)
    assert len(carrier.seen("GET", "/instructions")) == polls


def test_kubeconfigs_in_json_and_in_yaml_say_the_same() -> None:
    document = {
        "clusters": [
            {
                "name": "cluster",
                "cluster": {
                    "server": "https://api.example.com:6443",
                    "certificate-authority-data": base64.b64encode(b"API CA").decode(),
                },
            }
        ],
        "users": [{"name": "kubelet", "user": {"token": "bootstrap-token"}}],
        "contexts": [{"name": "kubelet", "context": {"cluster": "cluster", "user": "kubelet"}}],
        "current-context": "kubelet",
    }
    read = read_kubeconfig(KUBECONFIG.encode())
    assert read == read_kubeconfig(json.dumps(document).encode())
    assert (read.server, read.token, read.ca_pem) == ("https://api.example.com:6443", "bootstrap-token", "API CA")


def test_data_urls_and_merging() -> None:
    assert decode_data_url("data:,a%20b%0A") == b"a b\n"
    assert decode_data_url("data:text/plain;charset=utf-8;base64,YQ==") == b"a"
    parent = {"storage": {"files": [{"path": "/a", "mode": 1}, {"path": "/b"}], "luks": [1]}}
    child = {"storage": {"files": [{"path": "/a", "mode": 2}, {"path": "/c"}]}, "passwd": {"users": []}}
    merged = merge(parent, child)
    assert [file["path"] for file in merged["storage"]["files"]] == ["/a", "/b", "/c"]
    assert merged["storage"]["files"][0]["mode"] == 2
    assert merged["storage"]["luks"] == [1]
    assert merged["passwd"] == {"users": []}
