"""The pods of a node: those it knows how to run, and those it only reports.

A pod whose command is `next_step_runner` is the one that reclaims the node (cim-resources 3.9): the step runner
really runs, with what the pod's arguments, Secret and ConfigMap say. Every other pod is reported Running after a
short while, and taken away when it is deleted.
"""

from __future__ import annotations

import base64
import dataclasses
import posixpath
import urllib.parse
from typing import Any

from labsim.guest.effects import Cancel, ConnectionFailed, Log, Now, Sleep, Spawn, Task
from labsim.guest.kube_client import ApiRefused, KubeClient, timestamp
from labsim.guest.kubeconfig import Kubeconfig
from labsim.guest.service import ServiceAccess
from labsim.guest.settings import GuestSettings
from labsim.guest.step_runner import StepRunner
from labsim.guest.steps.context import StepContext
from labsim.guest.units import parse_flags

RUNNER = "next_step_runner"
RESTART_PAUSE_S = 10.0  # first restart delay of a container that ended

Pod = dict[str, Any]


@dataclasses.dataclass(slots=True)
class _RunningPod:
    handle: Any


class PodWorker:
    """Follows the pods that are bound to this node."""

    def __init__(
        self, client: KubeClient, access: Kubeconfig, settings: GuestSettings, node: str, host_ip: str
    ) -> None:
        self._client = client
        self._access = access
        self._settings = settings
        self._host_ip = host_ip
        self._list_path = f"/api/v1/pods?fieldSelector={urllib.parse.quote(f'spec.nodeName={node}', safe='')}"
        self._running: dict[str, _RunningPod] = {}  # by uid
        self._told = ""
        self._settled = b""  # the digest of the list that left nothing to be done; b"" before one did

    def run(self) -> Task[None]:
        while True:
            yield from self._sync()
            yield Sleep(self._settings.kubelet_pod_interval_s)

    def _sync(self) -> Task[None]:
        try:
            pods, listed = yield from self._client.changed(self._list_path, self._settled)
        except (ApiRefused, ConnectionFailed) as error:
            if str(error) != self._told:
                self._told = str(error)
                yield Log(f"cannot list pods: {error}", "kubelet")
            return
        self._told = ""
        if pods is None:
            return
        seen: set[str] = set()
        settled = True
        for pod in pods:
            uid = str(pod["metadata"]["uid"])
            seen.add(uid)
            if pod["metadata"].get("deletionTimestamp"):
                settled = False  # looked at again until it is gone
                yield from self._remove(uid, pod)
            elif uid not in self._running and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
                name = f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"
                self._running[uid] = _RunningPod((yield Spawn(self._run_pod(pod), name)))
        for uid in [uid for uid in self._running if uid not in seen]:
            yield Cancel(self._running.pop(uid).handle)
        self._settled = listed if settled else b""

    def _remove(self, uid: str, pod: Pod) -> Task[None]:
        """Stop a pod that is being deleted, and let its object go."""
        running = self._running.pop(uid, None)
        if running is not None:
            yield Cancel(running.handle)
        try:
            yield from self._client.delete(
                _path(pod), {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
            )
        except (ApiRefused, ConnectionFailed) as error:
            if not (isinstance(error, ApiRefused) and error.status == 404):
                yield Log(f"cannot remove pod {pod['metadata']['name']}: {error}", "kubelet")

    def _run_pod(self, pod: Pod) -> Task[None]:
        yield Sleep(self._settings.pod_start_s)
        while not (yield from self._report_running(pod)):
            yield Sleep(self._settings.kubelet_retry_s)
        command = _command(pod)
        if command and posixpath.basename(command[0]) == RUNNER:
            yield from self._run_step_runner(pod, command)

    def _report_running(self, pod: Pod) -> Task[bool]:
        """Whether the pod is known to be Running, or gone."""
        now = timestamp((yield Now()))
        kinds = ("Initialized", "Ready", "ContainersReady", "PodScheduled")
        statuses = [
            {
                "name": container["name"],
                "image": container.get("image", ""),
                "imageID": container.get("image", ""),
                "ready": True,
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
            "conditions": [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in kinds],
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
