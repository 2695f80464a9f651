"""The two certificates of a kubelet, and where they live: requests, waiting, and keeping them over reboots.

Source: hypershift-agent section 9, host-lifecycle 6.6 (what a request must look like to be approved).
"""

from __future__ import annotations

import base64
import json
from typing import Any

from labsim.guest.effects import ConnectionFailed, Log, MakeCsr, ReadFile, Sleep, Task, WriteFile
from labsim.guest.kube_client import ApiRefused, KubeClient
from labsim.guest.settings import GuestSettings

CSR_PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING_SIGNER = "kubernetes.io/kubelet-serving"
CLIENT_FILE = "/var/lib/kubelet/pki/kubelet-client-current.pem"
SERVER_FILE = "/var/lib/kubelet/pki/kubelet-server-current.pem"
REQUEST_FILE = "/var/lib/kubelet/pki/{purpose}-request.json"
NODES_GROUP = "system:nodes"


class CertificateRequest:
    """One certificate of this node: asked for once, waited for, and asked for again if it was refused."""

    def __init__(
        self,
        client: KubeClient,
        settings: GuestSettings,
        node: str,
        *,
        serving: bool,
        ip_addresses: tuple[str, ...] = (),
    ) -> None:
        self._client = client
        self._settings = settings
        self._purpose = "kubelet-server" if serving else "kubelet-client"
        self._signer = SERVING_SIGNER if serving else CLIENT_SIGNER
        self._usages = ["digital signature", "server auth" if serving else "client auth"]
        self._csr = MakeCsr(
            self._purpose, f"system:node:{node}", (NODES_GROUP,), (node,) if serving else (), ip_addresses
        )

    def obtain(self) -> Task[tuple[str, str]]:
        """(certificate PEM, key PEM), however long it takes."""
        while True:
            key_pem, name = yield from self._open_request()
            certificate_pem = yield from self._wait(name)
            if certificate_pem:
                yield WriteFile(REQUEST_FILE.format(purpose=self._purpose), b"", 0o600)
                return certificate_pem, key_pem

    def _open_request(self) -> Task[tuple[str, str]]:
        """(key PEM, name) of the request that waits, made now where none was made before a restart."""
        path = REQUEST_FILE.format(purpose=self._purpose)
        try:
            kept = json.loads((yield ReadFile(path)))
            return str(kept["key"]), str(kept["name"])
        except (OSError, ValueError, KeyError):
            pass
        key_pem, csr_pem = yield self._csr
        while True:
            try:
                created = yield from self._client.create(CSR_PATH, self._request(csr_pem))
            except (ApiRefused, ConnectionFailed) as error:
                yield Log(f"cannot create the {self._purpose} certificate request: {error}", "kubelet")
                yield Sleep(self._settings.kubelet_retry_s)
                continue
            name = str(created["metadata"]["name"])
            yield Log(f"certificate request {name} for {self._signer} created", "kubelet")
            yield WriteFile(path, json.dumps({"key": key_pem, "name": name}).encode(), 0o600)
            return key_pem, name

    def _request(self, csr_pem: str) -> dict[str, Any]:
        return {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"generateName": "csr-"},
            "spec": {
                "request": base64.b64encode(csr_pem.encode()).decode(),
                "signerName": self._signer,
                "usages": self._usages,
            },
        }

    def _wait(self, name: str) -> Task[str]:
        """The certificate once it is issued; "" where the request is gone or was refused."""
        while True:
            yield Sleep(self._settings.csr_poll_interval_s)
            try:
                request = yield from self._client.get(f"{CSR_PATH}/{name}")
            except ApiRefused as error:
                if error.status == 404:
                    yield from self._forget(f"certificate request {name} is gone")
                    return ""
                continue
            except ConnectionFailed:
                continue
            status = request.get("status") or {}
            if status.get("certificate"):
                return base64.b64decode(status["certificate"]).decode()
            if any(condition.get("type") in ("Denied", "Failed") for condition in status.get("conditions") or []):
                yield from self._forget(f"certificate request {name} was refused")
                yield Sleep(self._settings.kubelet_retry_s)
                return ""

    def _forget(self, why: str) -> Task[None]:
        yield Log(why, "kubelet")
        yield WriteFile(REQUEST_FILE.format(purpose=self._purpose), b"", 0o600)


def keep_certificate(path: str, certificate_pem: str, key_pem: str) -> Task[None]:
    """Store both in one file, as the kubelet does."""
    yield WriteFile(path, (certificate_pem.rstrip("\n") + "\n" + key_pem).encode(), 0o600)


def kept_certificate(path: str) -> Task[tuple[str, str] | None]:
    """(certificate PEM, key PEM) of an earlier boot, or None."""
    try:
        text = (yield ReadFile(path)).decode()
    except OSError:
        return None
    head = text.rfind("-----BEGIN", 0, text.find("PRIVATE KEY-----"))
    return (text[:head], text[head:]) if head > 0 else None
