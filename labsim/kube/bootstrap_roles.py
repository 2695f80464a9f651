"""The ClusterRoles and bindings that an API server makes at its start, as far as clients look for them.

`admin`, `edit` and `view` are put together by a controller, from the roles that their selectors find; without one they
give no rights.
"""

from __future__ import annotations

from labsim.kube.authorization import GROUP_ROLES
from labsim.model.objects import Object

_API = "rbac.authorization.k8s.io/v1"
_LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
_UPDATED = {"rbac.authorization.kubernetes.io/autoupdate": "true"}
_EVERYTHING = [
    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
    {"nonResourceURLs": ["*"], "verbs": ["*"]},
]
_AGGREGATED = {"admin": "", "edit": "admin", "view": "edit"}  # and the role that takes it in


def bootstrap_roles() -> list[Object]:
    """ClusterRoles, to be created in this order."""
    made = [_role("cluster-admin", _EVERYTHING)]
    for name, into in _AGGREGATED.items():
        labels = {f"rbac.authorization.k8s.io/aggregate-to-{into}": "true"} if into else {}
        selector = {"matchLabels": {f"rbac.authorization.k8s.io/aggregate-to-{name}": "true"}}
        made.append({**_role(name, None, labels), "aggregationRule": {"clusterRoleSelectors": [selector]}})
    named = {role: rules for roles in GROUP_ROLES.values() for role, rules in roles if role.startswith("system:")}
    return [*made, *(_role(name, rules) for name, rules in named.items())]


def bootstrap_bindings() -> list[Object]:
    """ClusterRoleBindings of those roles to the groups that have them."""
    subjects: dict[str, list[str]] = {"cluster-admin": ["system:masters"]}
    for group, roles in GROUP_ROLES.items():
        for role, _ in roles:
            if role.startswith("system:"):
                subjects.setdefault(role, []).append(group)
    group_api = _API.partition("/")[0]
    return [
        {
            "apiVersion": _API,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": role, "labels": _LABELS, "annotations": _UPDATED},
            "roleRef": {"apiGroup": group_api, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "Group", "apiGroup": group_api, "name": group} for group in groups],
        }
        for role, groups in subjects.items()
    ]


def _role(name: str, rules: list[Object] | None, labels: dict[str, str] | None = None) -> Object:
    metadata = {"name": name, "labels": {**_LABELS, **(labels or {})}, "annotations": _UPDATED}
    return {"apiVersion": _API, "kind": "ClusterRole", "metadata": metadata, "rules": rules}
