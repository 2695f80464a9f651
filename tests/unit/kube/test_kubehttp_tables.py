"""Columns: durations, paths, types, and those of the built-in kinds."""

from __future__ import annotations

from typing import Any

import pytest

from labsim.kube.builtin_columns import builtin_columns
from labsim.kube.column_paths import BadPath, compile_path
from labsim.kube.tables import age, custom_columns, human_duration, table

NOW_S = 1_767_225_600.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (600, "10m"),
        (179 * 60, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 120, "3h2m"),
        (9 * 3600 + 120, "9h"),
        (47 * 3600, "47h"),
        (50 * 3600, "2d2h"),
        (8 * 86400 + 3600, "8d"),
        (800 * 86400, "2y70d"),
        (10 * 365 * 86400, "10y"),
    ],
)
def test_durations_as_kubectl_prints_them(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_ages() -> None:
    assert age("2025-12-31T23:59:30Z", NOW_S) == "30s"
    assert age(None, NOW_S) == "<unknown>"
    assert age("yesterday", NOW_S) == "<invalid>"


OBJECT = {
    "metadata": {"labels": {"a.b/c": "x"}},
    "status": {"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "False"}], "ok": True},
    "list": [1, 2, 3],
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ('.status.conditions[?(@.type=="B")].status', ["False"]),
        (".status.conditions[?(@.type=='A')].status", ["True"]),
        (".status.conditions[?(@.type!='A')].type", ["B"]),
        (r".metadata.labels.a\.b/c", ["x"]),
        (".metadata.labels['a.b/c']", ["x"]),
        (".list[0]", [1]),
        (".list[-1]", [3]),
        (".list[9]", []),
        (".list[*]", [1, 2, 3]),
        (".status.none.deeper", []),
        ("{.status.ok}", [True]),
    ],
)
def test_paths_of_columns(path: str, values: list[Any]) -> None:
    assert compile_path(path)(OBJECT) == values


def test_a_path_outside_the_subset_says_so() -> None:
    with pytest.raises(BadPath):
        compile_path(".a[?(@.b in c)]")
    with pytest.raises(BadPath):
        compile_path(".a[0")


def test_cells_take_the_type_of_their_column() -> None:
    definitions = [
        {"name": "I", "type": "integer", "jsonPath": ".i"},
        {"name": "Wrong", "type": "integer", "jsonPath": ".s"},
        {"name": "S", "type": "string", "jsonPath": ".i"},
        {"name": "Bool", "type": "string", "jsonPath": ".b"},
        {"name": "List", "type": "string", "jsonPath": ".l"},
        {"name": "None", "type": "string", "jsonPath": ".none"},
        {"name": "Odd", "type": "string", "jsonPath": ".a[?(x)]"},
        {"name": "When", "type": "date", "jsonPath": ".t"},
    ]
    obj = {"metadata": {"name": "n"}, "i": 3, "s": "x", "b": True, "l": ["a", 1], "t": "2025-12-31T23:59:00Z"}
    made = table(custom_columns(definitions), [obj], now_s=NOW_S, metadata={})
    assert made["rows"][0]["cells"] == ["n", 3, None, "3", "true", '["a",1]', None, None, "60s"]


def cells(group: str, kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    obj.setdefault("metadata", {}).setdefault("name", "n")
    return {column.name: column.cell(obj, NOW_S) for column in builtin_columns(group, kind)}


def test_columns_of_nodes_and_pods() -> None:
    node = {
        "metadata": {"labels": {"node-role.kubernetes.io/worker": ""}},
        "spec": {"unschedulable": True},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.34.1"}},
    }
    shown = cells("", "Node", node)
    assert (shown["Status"], shown["Roles"], shown["Version"]) == ("Ready,SchedulingDisabled", "worker", "v1.34.1")
    pod: dict[str, Any] = {
        "spec": {"containers": [{}, {}], "nodeName": "w0"},
        "status": {"phase": "Running", "containerStatuses": [{"ready": True, "restartCount": 2}, {"ready": False}]},
    }
    shown = cells("", "Pod", pod)
    assert (shown["Ready"], shown["Status"], shown["Restarts"], shown["Node"]) == ("1/2", "Running", "2", "w0")
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert cells("", "Pod", pod)["Status"] == "Terminating"


def test_columns_of_services_and_requests() -> None:
    service = {"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "ports": [{"port": 443, "nodePort": 30443}]}}
    shown = cells("", "Service", service)
    assert (shown["Port(s)"], shown["External-IP"]) == ("443:30443/TCP", "<none>")
    request = {
        "status": {"conditions": [{"type": "Approved"}], "certificate": "x"},
        "spec": {"expirationSeconds": 3600},
    }
    shown = cells("certificates.k8s.io", "CertificateSigningRequest", request)
    assert (shown["Condition"], shown["RequestedDuration"]) == ("Approved,Issued", "60m")


def test_every_built_in_column_bears_an_empty_object() -> None:
    from labsim.kube.catalog import Catalog

    for versions in Catalog([]).groups.values():
        for resources in versions.values():
            for resource in resources:
                shown = [column.cell({"metadata": {"name": "n"}}, NOW_S) for column in resource.columns]
                assert "n" in shown
