"""The certificates, tokens and kubeconfigs of one control plane, kept in Secrets of its namespace (section 4.4).

Two authorities: `root-ca` vouches for servers, `cluster-signer-ca` for clients (the administrator's certificate and
the kubelets'). Everything is derived from the seed, made once and then read from the Secrets.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Callable

from labsim.controllers.hypershift.desired import ensure_exists
from labsim.controllers.hypershift.kubeconfigs import (
    endpoint_url,
    identity_of,
    kubeconfig,
    secret,
    secret_text,
)
from labsim.controllers.hypershift.names import CLUSTER_ANNOTATION, key_text
from labsim.controllers.hypershift.observed import BearerUser, HostedAuthentication, Observed
from labsim.controllers.runtime.effects import Key, Program, get, now
from labsim.entropy import Entropy
from labsim.kube.certificates import Identity, issue, self_signed_ca
from labsim.model.kinds import SECRET
from labsim.model.objects import Object, annotations_of, dig, owner_reference

BOOTSTRAP_USER = "system:serviceaccount:openshift-machine-config-operator:node-bootstrapper"
BOOTSTRAP_GROUPS = (
    "system:serviceaccounts",
    "system:serviceaccounts:openshift-machine-config-operator",
    "system:authenticated",
)
_PASSWORD_LETTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHIJKLMNPQRSTUVWXYZ23456789"  # noqa: S105 (an alphabet)


@dataclasses.dataclass(frozen=True, slots=True)
class Pki:
    """The identities of one control plane."""

    root_ca: Identity
    client_ca: Identity
    ignition_ca: Identity
    ignition_serving: Identity
    api_serving: Identity
    admin: Identity


class PkiSecrets:
    """Makes and reads the Secrets of control planes."""

    def __init__(self, entropy: Entropy, observed: Observed) -> None:
        self._entropy = entropy
        self._observed = observed

    def ensure_pki(self, hcp: Object, hosts: tuple[str, ...]) -> Program[Pki]:
        """Every identity, made where it is missing. `hosts` are the published addresses (IP literals or names)."""
        namespace, entropy = hcp["metadata"]["namespace"], self._entropy.child(f"pki/{_owner(hcp)}")
        moment_s = yield from now()
        dns = tuple(host for host in hosts if not _is_ip(host))
        ips = tuple(dict.fromkeys([*(host for host in hosts if _is_ip(host)), "172.20.0.1", "127.0.0.1"]))

        def authority(purpose: str, name: str) -> Callable[[], Identity]:
            return lambda: self_signed_ca(entropy, purpose, name, moment_s)

        def leaf(ca: Identity, purpose: str, name: str, *, client: bool = False) -> Callable[[], Identity]:
            if client:
                return lambda: issue(
                    ca, entropy, purpose, name, organizations=("system:masters",), client=True, now_s=moment_s
                )
            names = (*dns, "localhost", "kubernetes", "kubernetes.default.svc", purpose, f"{purpose}.{namespace}.svc")
            return lambda: issue(
                ca, entropy, purpose, name, dns_names=names, ip_addresses=ips, server=True, now_s=moment_s
            )

        root = yield from self._identity(hcp, "root-ca", authority("root-ca", "root-ca"))
        clients = yield from self._identity(hcp, "cluster-signer-ca", authority("signer-ca", "cluster-signer"))
        ignition = yield from self._identity(
            hcp, "ignition-server-ca-cert", authority("ignition-ca", "ignition-root-ca")
        )
        serving = leaf(ignition, "ignition-server", "ignition-server")
        return Pki(
            root_ca=root,
            client_ca=clients,
            ignition_ca=ignition,
            ignition_serving=(yield from self._identity(hcp, "ignition-server-serving-cert", serving)),
            api_serving=(yield from self._identity(hcp, "kas-server-crt", leaf(root, "kube-apiserver", "kubernetes"))),
            admin=(
                yield from self._identity(
                    hcp, "system-admin-client", leaf(clients, "system-admin", "system:admin", client=True)
                )
            ),
        )

    def ensure_kubeconfigs(self, hcp: Object, pki: Pki, host: str, port: int) -> Program[None]:
        """The kubeconfigs and the kubeadmin password, once the API server's outside address is known."""
        url, inside = endpoint_url(host, port), "https://kube-apiserver:6443"
        ca = pki.root_ca.cert_pem

        def admin(server: str) -> str:
            return kubeconfig(server, ca, user="admin", identity=pki.admin)

        token = bootstrap_token(self._entropy, _owner(hcp))
        bootstrap = kubeconfig(url, ca, user="kubelet", token=token)
        infra = str(dig(hcp, "spec", "infraID", default=""))
        wanted = {
            "admin-kubeconfig": {"kubeconfig": admin(url)},
            "service-network-admin-kubeconfig": {"kubeconfig": admin(inside)},
            "localhost-kubeconfig": {"kubeconfig": admin("https://localhost:6443")},
            "hcco-kubeconfig": {"kubeconfig": admin(inside)},
            "bootstrap-kubeconfig": {"kubeconfig": bootstrap},
            f"{infra}-kubeconfig": {"value": admin(url)},
        }
        if not dig(hcp, "spec", "configuration", "oauth"):
            wanted["kubeadmin-password"] = {"password": self._password(_owner(hcp))}
        for name, values in wanted.items():
            yield from self._secret(hcp, name, values)
        self._observed.signers[_owner(hcp)] = pki.client_ca
        self._observed.authentication[_owner(hcp)] = HostedAuthentication(
            {token: bootstrap_user(self._entropy, _owner(hcp))}, pki.client_ca.cert_pem
        )

    def signer(self, key: Key) -> Program[Identity | None]:
        """The authority that signs kubelets' requests; None before the control plane has one."""
        known = self._observed.signers.get(key_text(key))
        if known is None:
            found = yield from get(SECRET, key.namespace, "cluster-signer-ca", live=True)
            if found is None:
                return None
            known = self._observed.signers[key_text(key)] = identity_of(found)
        return known

    def _identity(self, hcp: Object, name: str, make: Callable[[], Identity]) -> Program[Identity]:
        present = yield from get(SECRET, hcp["metadata"]["namespace"], name)
        if present is None:
            made = make()
            present = yield from self._secret(
                hcp, name, {"tls.crt": made.cert_pem, "tls.key": made.key_pem}, kind="kubernetes.io/tls"
            )
        return identity_of(present)

    def _secret(self, hcp: Object, name: str, values: dict[str, str], *, kind: str = "Opaque") -> Program[Object]:
        namespace = hcp["metadata"]["namespace"]
        present = yield from get(SECRET, namespace, name)
        if present is not None and all(secret_text(present, key) for key in values):
            return present
        wanted = secret(
            namespace,
            name,
            values,
            kind=kind,
            annotations={CLUSTER_ANNOTATION: annotations_of(hcp).get(CLUSTER_ANNOTATION, "")},
            ownerReferences=[owner_reference(hcp)],
        )
        return (yield from ensure_exists(wanted, SECRET))

    def _password(self, owner: str) -> str:
        """23 characters: four groups of five, joined by hyphens."""
        groups = [self._entropy.text(f"kubeadmin/{owner}/{part}", 5, _PASSWORD_LETTERS) for part in range(4)]
        return "-".join(groups)


def bootstrap_token(entropy: Entropy, owner: str) -> str:
    """The bearer token of the node-bootstrapper service account."""
    return entropy.bytes(f"bootstrap-token/{owner}", 32).hex()


def bootstrap_user(entropy: Entropy, owner: str) -> BearerUser:
    """Who the bootstrap token stands for: CIM looks for exactly these groups on a client CSR."""
    return BearerUser(BOOTSTRAP_USER, entropy.uuid(f"node-bootstrapper/{owner}"), BOOTSTRAP_GROUPS)


def _owner(hcp: Object) -> str:
    return f"{hcp['metadata']['namespace']}/{hcp['metadata']['name']}"


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
