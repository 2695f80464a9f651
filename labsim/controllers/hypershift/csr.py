"""Certificate signing requests of a hosted cluster: machine-approver and the signer of kube-controller-manager.

A request is approved when a Machine or AgentMachine of the control plane vouches for the node (fact sheet, section 9;
host-lifecycle sheet, section 6.6). CIM may approve too; the signer does not care who did.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

from cryptography import x509
from cryptography.x509.oid import NameOID

from labsim.controllers.hypershift.desired import Condition, merged_conditions
from labsim.controllers.hypershift.names import key_from
from labsim.controllers.hypershift.observed import Observed, admin_kubeconfig
from labsim.controllers.hypershift.pki import BOOTSTRAP_GROUPS, BOOTSTRAP_USER, PkiSecrets
from labsim.controllers.runtime.effects import DONE, Controller, Key, Program, Result, Watch, get, now, update
from labsim.kube.certificates import sign_csr
from labsim.model.kinds import AGENT_MACHINE, CERTIFICATE_SIGNING_REQUEST, MACHINE, NODE
from labsim.model.objects import Object, condition_of, dig, name_of, namespace_of, thaw

CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
SERVING_SIGNER = "kubernetes.io/kubelet-serving"
_CLIENT_USAGES = {"digital signature", "client auth", "key encipherment"}
_SERVING_USAGES = {"digital signature", "server auth", "key encipherment"}
_NODE_PREFIX = "system:node:"
_APPROVE_REASON = "NodeCSRApprove"
_RETRY_S = 60.0  # a request that is not acceptable may become so: its Node may come


class SigningRequests:
    """Approves and signs the requests of kubelets, in every hosted cluster."""

    def __init__(self, observed: Observed, pki: PkiSecrets) -> None:
        self._observed = observed
        self._pki = pki

    def controller(self) -> Controller:
        return Controller(
            name="certificate-signing-requests",
            reconcile=self.reconcile,
            watches=(
                Watch(CERTIFICATE_SIGNING_REQUEST, _request_keys, hosted=True, when=_is_for_us),
                Watch(AGENT_MACHINE, self._vouched, when=self._index, sieve=addresses_changed),
                Watch(MACHINE, self._vouched, when=self._index, sieve=addresses_changed),
            ),
            workers=8,
        )

    def _index(self, before: Object | None, after: Object | None) -> bool:
        """Keep the host names of Machines; True when one became known."""
        names_before, names_after = _hostnames(before), _hostnames(after)
        if names_before == names_after:
            return False
        for hostname in names_before - names_after:
            assert before is not None
            place = (namespace_of(before), hostname)
            if self._observed.hostnames.get(place) == Key(namespace_of(before), name_of(before)):
                del self._observed.hostnames[place]
        for hostname in names_after:
            assert after is not None
            self._observed.hostnames[namespace_of(after), hostname] = Key(namespace_of(after), name_of(after))
        return bool(names_after)

    def _vouched(self, machine: Object) -> Iterable[Key]:
        """Requests that waited for this Machine."""
        for hostname in sorted(_hostnames(machine)):
            yield from sorted(self._observed.waiting_csrs.pop((namespace_of(machine), hostname), ()))

    def reconcile(self, key: Key) -> Program[Result]:
        plane = key_from(key.namespace)
        at = yield from admin_kubeconfig(self._observed, plane)
        if at is None:
            return Result(5.0)
        request = yield from get(CERTIFICATE_SIGNING_REQUEST, "", key.name, at=at)
        if request is None or dig(request, "status", "certificate"):
            return DONE
        decided = {entry["type"] for entry in dig(request, "status", "conditions", default=())}
        if "Denied" in decided or "Failed" in decided:
            return DONE
        if "Approved" not in decided:
            node = _node_of(request)
            if (plane.namespace, node) not in self._observed.hostnames:
                self._observed.waiting_csrs.setdefault((plane.namespace, node), set()).add(key)
                return DONE
            if not (yield from self._is_acceptable(request, node, at)):
                return Result(_RETRY_S)
            request = yield from self._approve(request, at)
        yield from self._sign(request, plane, at)
        return DONE

    def _is_acceptable(self, request: Object, node: str, at: str) -> Program[bool]:
        """Whether requester, usages and, for serving, the Node are as they must be."""
        spec = request["spec"]
        usages = set(spec.get("usages") or ())
        groups = set(spec.get("groups") or ())
        if spec.get("signerName") == CLIENT_SIGNER:
            return (
                spec.get("username") == BOOTSTRAP_USER and groups >= set(BOOTSTRAP_GROUPS) and usages <= _CLIENT_USAGES
            )
        if spec.get("signerName") == SERVING_SIGNER:
            if spec.get("username") != f"{_NODE_PREFIX}{node}" or not usages <= _SERVING_USAGES:
                return False
            return (yield from get(NODE, "", node, at=at)) is not None
        return False

    def _approve(self, request: Object, at: str) -> Program[Object]:
        moment_s = yield from now()
        changed = thaw(request)
        approved = Condition("True", _APPROVE_REASON, "This CSR was approved by the machine-approver")
        conditions = merged_conditions(
            dig(request, "status", "conditions", default=[]), {"Approved": approved}, moment_s
        )
        changed.setdefault("status", {})["conditions"] = [
            {**entry, "lastUpdateTime": entry["lastTransitionTime"]} for entry in conditions
        ]
        return (yield from update(changed, CERTIFICATE_SIGNING_REQUEST, subresource="approval", at=at))

    def _sign(self, request: Object, plane: Key, at: str) -> Program[None]:
        authority = yield from self._pki.signer(plane)
        if authority is None:
            return
        moment_s = yield from now()
        spec = request["spec"]
        pem = base64.b64decode(spec["request"])
        certificate = sign_csr(authority, pem, moment_s, spec.get("usages") or ())
        changed = thaw(request)
        changed.setdefault("status", {})["certificate"] = base64.b64encode(certificate.encode()).decode()
        yield from update(changed, CERTIFICATE_SIGNING_REQUEST, subresource="status", at=at)


def _is_for_us(before: Object | None, after: Object | None, _: str) -> bool:
    """Whether an event asks for something: our own approval does not, as the pass that made it goes on to sign."""
    if after is None or dig(after, "status", "certificate"):
        return False
    if before is None:
        return True
    approved = condition_of(after, "Approved")
    return approved is None or approved["reason"] != _APPROVE_REASON or condition_of(before, "Approved") is not None


def addresses_changed(before: Object, after: Object) -> bool:
    """Whether the addresses of a Machine or AgentMachine, which is all that we look at, have changed."""
    return bool(dig(before, "status", "addresses") != dig(after, "status", "addresses"))


def _request_keys(request: Object, owner: str) -> tuple[Key, ...]:
    if dig(request, "spec", "signerName") not in (CLIENT_SIGNER, SERVING_SIGNER):
        return ()
    return (Key(owner, name_of(request)),)


def _hostnames(machine: Object | None) -> set[str]:
    addresses = dig(machine, "status", "addresses", default=())
    names = {entry.get("address", "") for entry in addresses if entry.get("type") in ("InternalDNS", "Hostname")}
    return {name.lower() for name in names if name}


def _node_of(request: Object) -> str:
    """The node name that a request is for, in lower case; "" where the request cannot be read."""
    try:
        csr = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"]))
    except (KeyError, ValueError):
        return ""
    names = csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = str(names[0].value) if names else ""
    return text[len(_NODE_PREFIX) :].lower() if text.startswith(_NODE_PREFIX) else ""
