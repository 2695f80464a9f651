"""The pods of a node: those it knows how to run, and those it only reports.

A pod whose command is `next_step_runner` is the one that reclaims the node (cim-resources 3.9): the step runner
really runs, with what the pod's arguments, Secret and ConfigMap say. Every other pod is reported Running after a
short while, and taken away when it is deleted.
"""

from __future__ import annotations

import base64
import posixpath
import urllib.parse
from typing import Any

from labsim.guest.effects import Cancel, ConnectionFailed, Http, Log, Now, RandomBytes, Sleep, Spawn, Task
from labsim.guest.kube_client import ApiRefused, KubeClient, timestamp
from labsim.guest.kubeconfig import Kubeconfig
from labsim.guest.service import ServiceAccess, spread
from labsim.guest.settings import GuestSettings
from labsim.guest.step_runner import StepRunner
from labsim.guest.steps.context import StepContext
from labsim.guest.units import parse_flags

RUNNER = "next_step_runner"
PROXY_AGENT = "proxy-agent"  # of konnectivity
SHORT_WATCH_S = 1.0  # one that ends so soon without an event has gone wrong
RESTART_PAUSE_S = 10.0  # first restart delay of a container that ended

Pod = dict[str, Any]


class PodWorker:
    """Follows the pods that are bound to this node: lists them, then watches, as client-go's reflector does."""

    def __init__(
        self, client: KubeClient, access: Kubeconfig, settings: GuestSettings, node: str, host_ip: str
    ) -> None:
        self._client = client
        self._access = access
        self._settings = settings
        self._host_ip = host_ip
        self._list_path = f"/api/v1/pods?fieldSelector={urllib.parse.quote(f'spec.nodeName={node}', safe='')}"
        self._running: dict[str, Any] = {}  # handles of what runs, by uid
        self._removing: set[str] = set()
        self._told = ""

    def run(self) -> Task[None]:
        first_s, longest_s = self._settings.relist_pause_s
        pause_s = first_s
        while True:
            revision = yield from self._list()
            if revision:
                pause_s = first_s
            while revision:
                revision = yield from self._watch(revision)
            yield Sleep(spread((yield RandomBytes("relist", 7)), pause_s, 2 * pause_s))
            pause_s = min(2 * pause_s, longest_s)

    def _list(self) -> Task[str]:
        """Look at every pod of this node. The revision to go on from, "" where there was no answer."""
        try:
            listed = yield from self._client.get(self._list_path)
        except (ApiRefused, ConnectionFailed) as error:
            yield from self._cannot("list", error)
            return ""
        self._told = ""
        pods: list[Pod] = listed.get("items") or []
        for pod in pods:
            yield from self._look_at(pod)
        present = {str(pod["metadata"]["uid"]) for pod in pods}
        for uid in [uid for uid in self._running if uid not in present]:
            yield from self._cancel(uid)
        return str(listed["metadata"]["resourceVersion"])

    def _watch(self, revision: str) -> Task[str]:
        """Look at pods as they change, until the watch ends. The revision to go on from, "" where that is lost."""
        timeout_s = spread((yield RandomBytes("watch-timeout", 7)), *self._settings.watch_timeout_s)
        began_s: float = yield Now()
        began_at = revision
        try:
            watched = yield from self._client.watch(f"{self._list_path}&resourceVersion={revision}", timeout_s)
        except (ApiRefused, ConnectionFailed) as error:
            yield from self._cannot("watch", error)
            return ""
        while True:
            try:
                events = yield from watched.next()
            except ConnectionFailed:  # it broke off: another one tells whether it can be had
                events = []
            if not events:
                in_vain = revision == began_at and (yield Now()) - began_s < SHORT_WATCH_S
                return "" if in_vain else revision
            for event in events:
                if event["type"] == "ERROR":
                    return ""
                pod: Pod = event["object"]
                revision = str(pod["metadata"]["resourceVersion"])
                if event["type"] == "DELETED":
                    yield from self._cancel(str(pod["metadata"]["uid"]))
                elif event["type"] != "BOOKMARK":
                    yield from self._look_at(pod)

    def _cannot(self, what: str, error: Exception) -> Task[None]:
        if str(error) != self._told:  # one line per outage
            self._told = str(error)
            yield Log(f"cannot {what} pods: {error}", "kubelet")

    def _look_at(self, pod: Pod) -> Task[None]:
        """Start a pod that is new, stop one that is being deleted."""
        uid = str(pod["metadata"]["uid"])
        name = f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"
        if pod["metadata"].get("deletionTimestamp"):
            yield from self._cancel(uid)
            if uid not in self._removing:
                self._removing.add(uid)
                yield Spawn(self._remove(uid, pod), name)
        elif uid not in self._running and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            self._running[uid] = yield Spawn(self._run_pod(pod), name)

    def _cancel(self, uid: str) -> Task[None]:
        running = self._running.pop(uid, None)
        if running is not None:
            yield Cancel(running)

    def _remove(self, uid: str, pod: Pod) -> Task[None]:
        """Let the object of a stopped pod go, and no other one of its name."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": uid},
        }
        while True:
            try:
                yield from self._client.delete(_path(pod), options)
                break
            except (ApiRefused, ConnectionFailed) as error:
                if isinstance(error, ApiRefused) and error.status in (404, 409):
                    break
                yield Log(f"cannot remove pod {pod['metadata']['name']}: {error}", "kubelet")
            yield Sleep(self._settings.kubelet_retry_s)
        self._removing.discard(uid)

    def _run_pod(self, pod: Pod) -> Task[None]:
        yield Sleep(self._settings.pod_start_s)
        command = _command(pod)
        program = posixpath.basename(command[0]) if command else ""
        if program == PROXY_AGENT:
            yield from self._run_proxy_agent(pod, parse_flags(command[1:]))
            return
        yield from self._report_until_known(pod)
        if program == RUNNER:
            yield from self._run_step_runner(pod, command)

    def _run_proxy_agent(self, pod: Pod, flags: dict[str, str]) -> Task[None]:
        """The konnectivity agent: ready while its server can be reached. It never ends."""
        host, port = flags.get("proxy-server-host", ""), flags.get("proxy-server-port", "")
        url = f"https://{f'[{host}]' if ':' in host else host}:{port}/"
        known: bool | None = None
        while True:
            try:
                yield Http("GET", url, ca_pem=self._access.ca_pem)
                reached, trouble = True, ""
            except ConnectionFailed as error:
                reached, trouble = False, str(error)
            if reached is not known:
                what = "connected to the proxy server" if reached else f"cannot connect once: {trouble}"
                yield Log(what, "konnectivity-agent")
                yield from self._report_until_known(pod, ready=reached)
                known = reached
            yield Sleep(self._settings.tunnel_probe_s if reached else self._settings.tunnel_retry_s)

    def _report_until_known(self, pod: Pod, *, ready: bool = True) -> Task[None]:
        while not (yield from self._report_running(pod, ready=ready)):
            yield Sleep(self._settings.kubelet_retry_s)

    def _report_running(self, pod: Pod, *, ready: bool) -> Task[bool]:
        """Whether the pod is known to be Running, or gone."""
        now = timestamp((yield Now()))
        states = {"Initialized": True, "Ready": ready, "ContainersReady": ready, "PodScheduled": True}
        statuses = [
            {
                "name": container["name"],
                "image": container.get("image", ""),
                "imageID": container.get("image", ""),
                "ready": ready,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            }
            for container in pod["spec"].get("containers") or []
        ]
        status = {
            "phase": "Running",
            "startTime": now,
            "hostIP": self._host_ip,
            "podIP": self._host_ip,
            "podIPs": [{"ip": self._host_ip}],
            "conditions": [
                {"type": kind, "status": str(holds), "lastTransitionTime": now} for kind, holds in states.items()
            ],
            "containerStatuses": statuses,
        }
        try:
            yield from self._client.merge_patch(f"{_path(pod)}/status", {"status": status})
        except ApiRefused as error:
            return error.status == 404
        except ConnectionFailed:
            return False
        return True

    def _run_step_runner(self, pod: Pod, command: list[str]) -> Task[None]:
        """Run the step runner of a reclaim pod; the container is started again when it ends."""
        flags = parse_flags(command[1:])
        while True:
            try:
                token = yield from self._environment(pod, "PULL_SECRET_TOKEN")
                ca_pem = yield from self._mounted_file(pod, flags.get("cacert", ""))
            except (ApiRefused, ConnectionFailed) as error:
                yield Log(f"pod {pod['metadata']['name']}: {error}", "kubelet")
                yield Sleep(self._settings.kubelet_retry_s)
                continue
            access = ServiceAccess(
                flags.get("url", "").rstrip("/"),
                token,
                flags.get("agent-version", ""),
                ca_pem,
                flags.get("insecure") == "true",
            )
            context = StepContext(
                settings=self._settings,
                host_id=flags.get("host-id", ""),
                infra_env_id=flags.get("infra-env-id", ""),
                media="disk",
            )
            yield Log(f"pod {pod['metadata']['name']}: starting the step runner", "kubelet")
            exit_code = yield from StepRunner(access, context).run()
            yield Log(f"pod {pod['metadata']['name']}: the step runner ended with {exit_code}", "kubelet")
            yield Sleep(RESTART_PAUSE_S)

    def _environment(self, pod: Pod, name: str) -> Task[str]:
        """The value of an environment variable, also where it comes from a Secret or a ConfigMap."""
        for variable in pod["spec"]["containers"][0].get("env") or []:
            if variable.get("name") != name:
                continue
            source = variable.get("valueFrom") or {}
            if "secretKeyRef" in source:
                reference = source["secretKeyRef"]
                secret = yield from self._client.get(_sibling(pod, "secrets", str(reference["name"])))
                return base64.b64decode((secret.get("data") or {}).get(reference["key"], "")).decode()
            if "configMapKeyRef" in source:
                reference = source["configMapKeyRef"]
                config = yield from self._client.get(_sibling(pod, "configmaps", str(reference["name"])))
                return str((config.get("data") or {}).get(reference["key"], ""))
            return str(variable.get("value", ""))
        return ""

    def _mounted_file(self, pod: Pod, path: str) -> Task[str]:
        """The text of a file that a ConfigMap volume puts into the container; "" for no path."""
        if not path:
            return ""
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
        for mount in pod["spec"]["containers"][0].get("volumeMounts") or []:
            root = str(mount["mountPath"]).rstrip("/")
            source = volumes.get(mount["name"], {}).get("configMap")
            if source is None or not (path == root or path.startswith(root + "/")):
                continue
            key = str(mount.get("subPath") or path[len(root) + 1 :])
            for item in source.get("items") or []:
                if item.get("path") == key:
                    key = str(item["key"])
            config = yield from self._client.get(_sibling(pod, "configmaps", str(source["name"])))
            return str((config.get("data") or {}).get(key, ""))
        return ""


def _command(pod: Pod) -> list[str]:
    container = (pod["spec"].get("containers") or [{}])[0]
    return [str(word) for word in (*(container.get("command") or []), *(container.get("args") or []))]


def _path(pod: Pod) -> str:
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


def _sibling(pod: Pod, plural: str, name: str) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/{plural}/{name}"
