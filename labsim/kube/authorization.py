"""Who may do what: RBAC over the stored roles and bindings, and the few rights that a cluster has from the start.

`system:masters` may do everything. Kubelets and joining nodes have the rights of upstream's node authorizer and
bootstrap roles, without its limit to the objects of one's own node: nothing here runs foreign workloads.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

from labsim.kube.errors import ApiError
from labsim.kube.server import ApiServer
from labsim.kube.short_texts import SHORT
from labsim.kube.users import VIEWERS, User
from labsim.model.kinds import CLUSTER_ROLE, CLUSTER_ROLE_BINDING, ROLE, ROLE_BINDING
from labsim.model.objects import Object

READ = ("get", "list", "watch")
WRITE = ("create", "update", "patch", "delete", "deletecollection")


@dataclasses.dataclass(frozen=True, slots=True)
class Attributes:
    """What a request wants to do: to a resource, or (where `path` is set) to a path that is none."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def _rule(verbs: Sequence[str], groups: Sequence[str], resources: Sequence[str]) -> Object:
    return {"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources)}


_EVERYTHING: list[Object] = [_rule(["*"], ["*"], ["*"]), {"verbs": ["*"], "nonResourceURLs": ["*"]}]
# RBAC has no way to say this: everything but Secrets, which hold the keys to what a reader may not do.
_BUT = "exceptResources"
_READ_ALL: list[Object] = [{**_rule(READ, ["*"], ["*"]), _BUT: ["secrets"]}]
_REVIEWS = [
    _rule(["create"], ["authorization.k8s.io"], ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
    _rule(["create"], ["authentication.k8s.io"], ["selfsubjectreviews"]),
]
_DISCOVERY_PATHS = ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*"]
_PUBLIC_PATHS = ["/healthz", "/livez", "/readyz", "/version", "/version/"]
_JOINING = [_rule(["create", *READ], ["certificates.k8s.io"], ["certificatesigningrequests"])]
_NODES = [
    *_JOINING,
    _rule([*READ, "create", "update", "patch"], [""], ["nodes", "nodes/status"]),
    _rule([*READ, "create", "delete"], [""], ["pods"]),
    _rule(["update", "patch"], [""], ["pods/status"]),
    _rule(["create"], [""], ["pods/eviction"]),
    _rule(["create", "update", "patch"], ["", "events.k8s.io"], ["events"]),
    _rule(READ, [""], ["services", "configmaps", "secrets", "persistentvolumeclaims", "serviceaccounts"]),
    _rule([*READ, *WRITE], ["coordination.k8s.io"], ["leases"]),
]
_PUBLIC: list[Object] = [{"verbs": ["get"], "nonResourceURLs": _PUBLIC_PATHS}]
_DISCOVERY: list[Object] = [{"verbs": ["get"], "nonResourceURLs": [*_DISCOVERY_PATHS, *_PUBLIC_PATHS]}]
# Rights that come with a group, whatever is stored, by the role that gives them.
GROUP_ROLES: dict[str, list[tuple[str, list[Object]]]] = {
    "system:authenticated": [
        ("system:basic-user", _REVIEWS),
        ("system:discovery", _DISCOVERY),
        ("system:public-info-viewer", _PUBLIC),
    ],
    "system:unauthenticated": [("system:public-info-viewer", _PUBLIC)],
    "system:nodes": [("node", _NODES)],
    "system:bootstrappers": [("node-bootstrapper", _JOINING)],
    # A node of a hosted cluster joins with the token of this account of the machine-config-operator.
    "system:serviceaccounts:openshift-machine-config-operator": [("node-bootstrapper", _JOINING)],
    VIEWERS: [(VIEWERS, _READ_ALL)],
}
_OF_GROUPS: dict[str, list[Object]] = {
    group: [rule for _, rules in roles for rule in rules] for group, roles in GROUP_ROLES.items()
}
_WORKLOADS = ("", "apps", "coordination.k8s.io")
# Default ClusterRoles that bindings may name although nobody has stored them.
_DEFAULT_ROLES: dict[str, list[Object]] = {
    "cluster-admin": _EVERYTHING,
    "admin": [_rule(["*"], ["*"], ["*"])],
    "edit": [_rule([*READ, *WRITE], _WORKLOADS, ["*"])],
    "view": _READ_ALL,
    "system:node": _NODES,
    "system:node-bootstrapper": _JOINING,
}


def groups_allow(
    groups: tuple[str, ...], verb: str, group: str, resource: str, subresource: str, path: str = ""
) -> bool:
    """Whether groups alone give a right, whatever is stored: it does not depend on which object is meant."""
    is_short = sum(map(len, groups)) + len(group) + len(resource) + len(subresource) + len(path) <= SHORT
    return (_known if is_short else _groups_allow)(groups, verb, group, resource, subresource, path)


def _groups_allow(groups: tuple[str, ...], verb: str, group: str, resource: str, subresource: str, path: str) -> bool:
    wanted = Attributes(verb, group, resource, subresource, path=path)
    return any(_covers(rule, wanted) for name in groups for rule in _OF_GROUPS.get(name, ()))


_known = functools.lru_cache(maxsize=4096)(_groups_allow)


class Authorizer:
    """Decides by the roles and bindings that an API server holds now."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    def allows(self, user: User, wanted: Attributes) -> bool:
        if "system:masters" in user.groups:
            return True
        if groups_allow(user.groups, wanted.verb, wanted.group, wanted.resource, wanted.subresource, wanted.path):
            return True
        return any(_covers(rule, wanted) for rule in self._bound_rules(user, wanted.namespace))

    def reason(self, user: User, wanted: Attributes) -> str:
        """Why a user may do something, as RBAC tells it; "" for administrators, who are not asked about."""
        if "system:masters" in user.groups:
            return ""
        for group in user.groups:
            for role, rules in GROUP_ROLES.get(group, ()):
                if any(_covers(rule, wanted) for rule in rules):
                    return f'RBAC: allowed by ClusterRoleBinding "{role}" of ClusterRole "{role}" to Group "{group}"'
        for binding, namespace in self._bindings(user, wanted.namespace):
            reference = binding["roleRef"]
            if any(_covers(rule, wanted) for rule in self._role_rules(reference, namespace)):
                name = binding["metadata"]["name"] + (f"/{namespace}" if namespace else "")
                kind = "RoleBinding" if namespace else "ClusterRoleBinding"
                to = _subject(binding, user)
                return f'RBAC: allowed by {kind} "{name}" of {reference["kind"]} "{reference["name"]}" to {to}'
        return ""

    def missing_roles(self, user: User, wanted: Attributes) -> str:
        """What a refusal says of bindings to roles that are not there."""
        found = []
        for binding, namespace in self._bindings(user, wanted.namespace):
            kind, name = binding["roleRef"].get("kind"), binding["roleRef"].get("name", "")
            role_kind = ROLE if kind == "Role" else CLUSTER_ROLE
            if kind != "Role" and name in _DEFAULT_ROLES:
                continue
            try:
                self._server.get(role_kind, namespace if kind == "Role" else "", name)
            except ApiError:
                found.append(f'{str(kind).lower()}.rbac.authorization.k8s.io "{name}" not found')
        if len(found) > 1:
            return f"RBAC: [{', '.join(found)}]"
        return f"RBAC: {found[0]}" if found else ""

    def rules(self, user: User, namespace: str) -> list[Object]:
        """All rules that hold for a user in a namespace (and at the cluster scope)."""
        if "system:masters" in user.groups:
            return _EVERYTHING
        own = [rule for group in user.groups for rule in _OF_GROUPS.get(group, ())]
        return [expressed for rule in (*own, *self._bound_rules(user, namespace)) for expressed in self._in_rbac(rule)]

    def _in_rbac(self, rule: Object) -> list[Object]:
        """A rule in the words of RBAC: one with exceptions names what is left of the groups that are served now."""
        if _BUT not in rule:
            return [rule]
        kinds = [served.kind for served in self._server.registry.all()]
        core = sorted({kind.plural for kind in kinds if not kind.group} - set(rule[_BUT]))
        groups = sorted({kind.group for kind in kinds if kind.group})
        return [_rule(rule["verbs"], [""], core), _rule(rule["verbs"], groups, ["*"])]

    def _bound_rules(self, user: User, namespace: str) -> Iterator[Object]:
        for binding, place in self._bindings(user, namespace):
            yield from self._role_rules(binding["roleRef"], place)

    def _bindings(self, user: User, namespace: str) -> Iterator[tuple[Object, str]]:
        """The bindings of a user, each with its namespace ("" for one of the whole cluster)."""
        for binding in self._server.list(CLUSTER_ROLE_BINDING)[0]:
            if _subject(binding, user):
                yield binding, ""
        if namespace:
            for binding in self._server.list(ROLE_BINDING, namespace)[0]:
                if _subject(binding, user):
                    yield binding, namespace

    def _role_rules(self, reference: Object, namespace: str) -> Sequence[Object]:
        name = reference.get("name", "")
        try:
            if reference.get("kind") == "Role":
                role = self._server.get(ROLE, namespace, name)
            else:
                role = self._server.get(CLUSTER_ROLE, "", name)
        except ApiError:
            return _DEFAULT_ROLES.get(name, []) if reference.get("kind") == "ClusterRole" else []
        return role.get("rules") or []


def forbidden_message(user: User, wanted: Attributes) -> str:
    """The text of a refusal, as kube-apiserver words it."""
    if wanted.path:
        return f'User "{user.name}" cannot {wanted.verb} path "{wanted.path}"'
    place = f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
    return (
        f'User "{user.name}" cannot {wanted.verb} resource "{wanted.full_resource}" '
        f'in API group "{wanted.group}" {place}'
    )


def forbidden_error(user: User, wanted: Attributes, reason: str = "") -> ApiError:
    """The 403 for a request that the user may not make; `reason` is what kept RBAC from allowing it."""
    told = forbidden_message(user, wanted) + (f": {reason}" if reason else "")
    if wanted.path:
        return ApiError(403, "Forbidden", f"forbidden: {told}", {})
    qualified = f"{wanted.resource}.{wanted.group}" if wanted.group else wanted.resource
    details = {"name": wanted.name, "group": wanted.group, "kind": wanted.resource}
    what = f'{qualified} "{wanted.name}"' if wanted.name else qualified
    return ApiError(
        403,
        "Forbidden",
        f"{what} is forbidden: {told}",
        {key: value for key, value in details.items() if value},
    )


def _covers(rule: Object, wanted: Attributes) -> bool:
    verbs = rule.get("verbs") or ()
    if wanted.verb not in verbs and "*" not in verbs:
        return False
    if wanted.path:
        return any(_path_matches(pattern, wanted.path) for pattern in rule.get("nonResourceURLs") or ())
    groups = rule.get("apiGroups") or ()
    if wanted.group not in groups and "*" not in groups:
        return False
    resources = rule.get("resources") or ()
    if not wanted.group and wanted.resource in rule.get(_BUT, ()):
        return False
    full = wanted.full_resource
    if not ("*" in resources or full in resources or (wanted.subresource and f"*/{wanted.subresource}" in resources)):
        return False
    names = rule.get("resourceNames")
    return not names or wanted.name in names


def _path_matches(pattern: str, path: str) -> bool:
    return pattern in ("*", path) or (pattern.endswith("*") and path.startswith(pattern[:-1]))


def _subject(binding: Object, user: User) -> str:
    """As whom a binding means a user: `User "alice"`; "" where it does not."""
    for subject in binding.get("subjects") or ():
        kind, name = subject.get("kind"), subject.get("name")
        place = subject.get("namespace", "")
        if kind == "User" and name == user.name:
            return f'User "{name}"'
        if kind == "Group" and name in user.groups:
            return f'Group "{name}"'
        if kind == "ServiceAccount" and user.name == f"system:serviceaccount:{place}:{name}":
            return f'ServiceAccount "{name}/{place}"'
    return ""
