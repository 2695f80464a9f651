"""Which certificate signing requests are those of a node that is added (cim-resources 3.10). Pure."""

from __future__ import annotations

import base64
import dataclasses
import functools

from cryptography import x509
from cryptography.x509.oid import NameOID

from labsim.model.objects import Object, condition_status, dig

NODE_PREFIX = "system:node:"
NODES_GROUP = "system:nodes"
BOOTSTRAPPER = "system:serviceaccount:openshift-machine-config-operator:node-bootstrapper"
BOOTSTRAPPER_GROUPS = frozenset(
    {
        "system:serviceaccounts:openshift-machine-config-operator",
        "system:serviceaccounts",
        "system:authenticated",
    }
)
_CLIENT_USAGES = frozenset({"digital signature", "client auth"})
_SERVING_USAGES = frozenset({"digital signature", "server auth"})
_OPTIONAL_USAGE = frozenset({"key encipherment"})


@dataclasses.dataclass(frozen=True, slots=True)
class ApprovedCsr:
    """An entry of the Agent's csrStatus."""

    name: str
    kind: str  # client or serving
    approved_at: str

    def document(self) -> Object:
        return {"name": self.name, "type": self.kind, "approvedAt": self.approved_at}


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """What a PKCS#10 request asks for."""

    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    other_names: bool


@functools.lru_cache(maxsize=8192)
def subject_of(encoded: str) -> Subject | None:
    """The subject of `spec.request`; None where it is no request."""
    try:
        request = x509.load_pem_x509_csr(base64.b64decode(encoded))
        common = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        organizations = request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        try:
            names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            names = x509.SubjectAlternativeName([])
    except ValueError:
        return None
    dns = tuple(str(name) for name in names.get_values_for_type(x509.DNSName))
    addresses = tuple(str(address) for address in names.get_values_for_type(x509.IPAddress))
    return Subject(
        common_name=str(common[0].value) if common else "",
        organizations=tuple(str(entry.value) for entry in organizations),
        dns_names=dns,
        ip_addresses=addresses,
        other_names=len(list(names)) != len(dns) + len(addresses),
    )


def csr_names(request: Object) -> tuple[str, ...]:
    """The node, in lower case, that a request is about; empty where it is about none."""
    subject = subject_of(dig(request, "spec", "request", default=""))
    if subject is None or not subject.common_name.lower().startswith(NODE_PREFIX):
        return ()
    return (subject.common_name[len(NODE_PREFIX) :].lower(),)


def is_approved(request: Object) -> bool:
    return condition_status(request, "Approved") == "True"


def csr_kind(request: Object, hostname: str, node: Object | None) -> str | None:
    """`client` or `serving` where the request is one of this node's; None for any other."""
    subject = subject_of(dig(request, "spec", "request", default=""))
    if subject is None or subject.common_name.lower() != f"{NODE_PREFIX}{hostname}".lower():
        return None
    spec = request["spec"]
    usages = frozenset(spec.get("usages") or ()) - _OPTIONAL_USAGE
    groups = frozenset(spec.get("groups") or ())
    if usages == _CLIENT_USAGES and _is_client(subject, str(spec.get("username", "")), groups):
        return "client"
    if usages == _SERVING_USAGES and _is_serving(subject, str(spec.get("username", "")), groups, node):
        return "serving"
    return None


def _is_client(subject: Subject, username: str, groups: frozenset[str]) -> bool:
    return (
        subject.organizations == (NODES_GROUP,)
        and not subject.dns_names
        and not subject.ip_addresses
        and not subject.other_names
        and username == BOOTSTRAPPER
        and groups == BOOTSTRAPPER_GROUPS
    )


def _is_serving(subject: Subject, username: str, groups: frozenset[str], node: Object | None) -> bool:
    """A serving certificate is asked for by the node itself, for addresses that its Node really has."""
    if node is None or username != subject.common_name or subject.other_names:
        return False
    if len(groups) < 2 or "system:authenticated" not in groups or NODES_GROUP not in subject.organizations:
        return False
    addresses = {str(entry.get("address")) for entry in dig(node, "status", "addresses", default=())}
    addresses.add(str(node["metadata"]["name"]))
    return set(subject.dns_names) <= addresses and set(subject.ip_addresses) <= addresses
