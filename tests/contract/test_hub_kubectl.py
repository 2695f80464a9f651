"""The real kubectl against the embedded hub and a real kube-apiserver: the commands that people and scripts use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubehttp_serving import SERVERS, WIDGETS, Served, serving

pytestmark = [
    pytest.mark.kubectl,
    pytest.mark.skipif(
        shutil.which("kubectl") is None,
        reason="kubectl is not on PATH; install it: https://kubernetes.io/docs/tasks/tools/",
    ),
]
TIMEOUT_S = 30
Run = Callable[..., str]


@pytest.fixture(scope="module", params=SERVERS)
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("hub"), request.param) as made:
        yield made


@pytest.fixture(scope="module")
def environment(hub: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = tmp_path_factory.mktemp("home")  # kubectl keeps its discovery cache there
    return {"KUBECONFIG": str(hub.kubeconfig), "HOME": str(home), "PATH": os.environ["PATH"]}


@pytest.fixture(scope="module")
def run(environment: dict[str, str]) -> Run:
    def kubectl(*arguments: str, stdin: Any = None, fails: bool = False, kubeconfig: Path | None = None) -> str:
        text = stdin if stdin is None or isinstance(stdin, str) else json.dumps(stdin)
        extra = ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
        done = subprocess.run(
            ["kubectl", *extra, *arguments], env=environment, input=text, text=True, capture_output=True,
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + (done.stderr if fails else "")

    return kubectl


@pytest.fixture(scope="module", autouse=True)
def lab(run: Run) -> None:
    run("create", "namespace", "lab")
    run("create", "-f", "-", stdin=WIDGETS)
    run("wait", "crd/widgets.contract.test", "--for=condition=Established", "--timeout=10s")


def widget(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "contract.test/v1",
        "kind": "Widget",
        "metadata": {"name": name, "namespace": "lab"},
        "spec": spec,
    }


def lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_secrets_and_config_maps_through_their_life(run: Run) -> None:
    run("-n", "lab", "create", "secret", "generic", "pull", "--from-literal=token=abc")
    assert lines(run("-n", "lab", "get", "secret", "pull"))[0] == ["NAME", "TYPE", "DATA", "AGE"]
    assert lines(run("-n", "lab", "get", "secret", "pull", "--no-headers"))[0][:3] == ["pull", "Opaque", "1"]
    assert run("-n", "lab", "get", "secret", "pull", "-o", "jsonpath={.data.token}") == "YWJj"
    run("-n", "lab", "create", "configmap", "settings", "--from-literal=a=1")
    run("-n", "lab", "patch", "configmap", "settings", "-p", '{"data":{"b":"2"}}')
    run("-n", "lab", "label", "configmap", "settings", "stage=test")
    run("-n", "lab", "annotate", "configmap", "settings", "note=yes")
    settings = json.loads(run("-n", "lab", "get", "cm", "-l", "stage=test", "-o", "json"))["items"][0]
    assert settings["data"] == {"a": "1", "b": "2"}
    assert settings["metadata"]["annotations"] == {"note": "yes"}
    assert "settings" in run("-n", "lab", "describe", "configmap", "settings")
    assert "deleted" in run("-n", "lab", "delete", "configmap", "settings")
    assert "NotFound" in run("-n", "lab", "get", "configmap", "settings", fails=True)


def test_apply_creates_changes_and_leaves_alone(run: Run) -> None:
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied", "namespace": "lab"}}
    assert "created" in run("apply", "-f", "-", stdin={**document, "data": {"a": "1", "b": "1"}})
    assert "unchanged" in run("apply", "-f", "-", stdin={**document, "data": {"a": "1", "b": "1"}})
    assert "configured" in run("apply", "-f", "-", stdin={**document, "data": {"a": "2"}})
    assert json.loads(run("-n", "lab", "get", "cm", "applied", "-o", "jsonpath={.data}")) == {"a": "2"}


def test_custom_resources_are_applied_by_client_and_server(run: Run) -> None:
    assert "created" in run("apply", "-f", "-", stdin=widget("client", size=1))
    assert "configured" in run("apply", "-f", "-", stdin=widget("client", size=2))
    assert run("-n", "lab", "get", "wd", "client", "-o", "jsonpath={.spec.size} {.spec.color}") == "2 red"
    assert "serverside-applied" in run("apply", "--server-side", "-f", "-", stdin=widget("server", size=1))
    assert "serverside-applied" in run("apply", "--server-side", "-f", "-", stdin=widget("server", size=3))
    assert run("-n", "lab", "get", "widgets.contract.test", "server", "-o", "jsonpath={.spec.size}") == "3"
    assert "serverside-applied" in run(
        "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=widget("client", size=5)
    )
    assert "replaced" in run("replace", "-f", "-", stdin=_at_latest(run, widget("server", size=9)))


def _at_latest(run: Run, document: dict[str, Any]) -> dict[str, Any]:
    name = document["metadata"]["name"]
    version = run("-n", "lab", "get", "widget", name, "-o", "jsonpath={.metadata.resourceVersion}")
    document["metadata"]["resourceVersion"] = version
    return document


def test_diff_shows_what_would_change(run: Run) -> None:
    run("apply", "-f", "-", stdin=widget("differs", size=1))
    shown = run("diff", "-f", "-", stdin=widget("differs", size=7), fails=True)
    assert "size: 7" in shown
    assert run("-n", "lab", "get", "wd", "differs", "-o", "jsonpath={.spec.size}") == "1"


def test_scale_and_status(run: Run) -> None:
    run("create", "-f", "-", stdin=widget("scaled", size=1, replicas=1))
    run("-n", "lab", "scale", "widget/scaled", "--replicas=3")
    assert run("-n", "lab", "get", "wd", "scaled", "-o", "jsonpath={.spec.replicas}") == "3"
    conditions = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    run("-n", "lab", "patch", "wd", "scaled", "--subresource=status", "--type=merge", "-p", json.dumps(conditions))
    assert "condition met" in run("-n", "lab", "wait", "wd/scaled", "--for=condition=Ready", "--timeout=5s")
    table = lines(run("-n", "lab", "get", "wd", "scaled"))
    assert table[0] == ["NAME", "SIZE", "READY", "AGE"]
    assert table[1][:3] == ["scaled", "1", "True"]
    assert lines(run("-n", "lab", "get", "wd", "scaled", "-o", "wide"))[0] == ["NAME", "SIZE", "READY", "COLOR", "AGE"]


def test_wait_hears_of_a_later_change_and_of_a_deletion(run: Run, hub: Served, environment: dict[str, str]) -> None:
    run("create", "-f", "-", stdin=widget("awaited", size=1))
    for awaited, change in (
        ("--for=jsonpath={.spec.size}=2", ("patch", "wd", "awaited", "--type=merge", "-p", '{"spec":{"size":2}}')),
        ("--for=delete", ("delete", "wd", "awaited", "--wait=false")),
    ):
        waiting = subprocess.Popen(
            ["kubectl", "-n", "lab", "wait", "wd/awaited", awaited, "--timeout=10s"], env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        run("-n", "lab", *change)
        output, _ = waiting.communicate(timeout=TIMEOUT_S)
        assert waiting.returncode == 0, output


def test_get_watch_prints_changes(run: Run, environment: dict[str, str]) -> None:
    run("create", "-f", "-", stdin=widget("watched", size=1))
    watching = subprocess.Popen(
        ["kubectl", "-n", "lab", "get", "wd", "watched", "-w", "--no-headers"], env=environment,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watching.stdout is not None
    try:
        assert watching.stdout.readline().split()[:2] == ["watched", "1"]
        run("-n", "lab", "patch", "wd", "watched", "--type=json", "-p",
            '[{"op": "replace", "path": "/spec/size", "value": 4}]')  # fmt: skip
        assert watching.stdout.readline().split()[:2] == ["watched", "4"]
    finally:
        watching.kill()
        watching.wait(TIMEOUT_S)
        watching.stdout.close()


def test_invalid_objects_are_refused_with_the_field(run: Run) -> None:
    refused = run("create", "-f", "-", stdin=widget("bad", size=-1), fails=True)
    assert "spec.size" in refused
    assert "greater than or equal to 0" in refused


def test_explain_and_api_resources(run: Run) -> None:
    explained = run("explain", "widget.spec")
    assert "What is wanted." in explained
    assert "color\t<string>" in explained
    assert "containers" in run("explain", "pod.spec")
    assert "replicas" in run("explain", "nodepools.spec")
    resources = run("api-resources", "--api-group=contract.test", "--no-headers")
    assert resources.split() == ["widgets", "wd", "contract.test/v1", "true", "Widget"]
    assert "kubectl get agents" not in run("api-resources")


def test_describe_of_a_custom_resource(run: Run) -> None:
    run("create", "-f", "-", stdin=widget("described", size=6))
    described = run("-n", "lab", "describe", "widget", "described")
    assert "Size:" in described
    assert "Events:" in described


def test_lists_over_several_pages(run: Run) -> None:
    for number in range(5):
        run("-n", "lab", "create", "configmap", f"page-{number}")
    names = run("-n", "lab", "get", "cm", "--chunk-size=2", "-o", "name").split()
    assert [name for name in names if "page-" in name] == [f"configmap/page-{number}" for number in range(5)]


def test_rights(run: Run, hub: Served) -> None:
    assert run("auth", "can-i", "create", "secrets").strip() == "yes"
    assert "system:masters" in run("auth", "whoami")
    reader = hub.reader_kubeconfig
    assert "default" in run("get", "namespaces", kubeconfig=reader)
    assert run("auth", "can-i", "create", "secrets", kubeconfig=reader, fails=True).splitlines()[0] == "no"
    refused = run("-n", "lab", "create", "configmap", "no", kubeconfig=reader, fails=True)
    assert 'reader" cannot create resource "configmaps"' in refused  # each server's reader has a name of its own


def test_columns_of_agents_and_node_pools(run: Run) -> None:
    agent = {
        "apiVersion": "agent-install.openshift.io/v1beta1",
        "kind": "Agent",
        "metadata": {"name": "a1", "namespace": "lab"},
        "spec": {"approved": True, "hostname": "worker-0", "role": ""},
    }
    run("create", "-f", "-", stdin=agent)
    header, row = lines(run("-n", "lab", "get", "agents"))
    assert header[:3] == ["NAME", "CLUSTER", "APPROVED"]
    assert row[0] == "a1"
    assert "true" in row
    columns = run("get", "nodepools", "-A", "-o", "wide")
    assert columns == ""  # an empty list prints its note on stderr
    assert "autoScaling" in run("explain", "nodepool.spec")


def test_a_finalizer_holds_a_deletion(run: Run) -> None:
    held = widget("held", size=1)
    held["metadata"]["finalizers"] = ["contract.test/hold"]
    run("create", "-f", "-", stdin=held)
    run("-n", "lab", "delete", "wd", "held", "--wait=false")
    assert run("-n", "lab", "get", "wd", "held", "-o", "jsonpath={.metadata.deletionTimestamp}")
    run("-n", "lab", "patch", "wd", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert "NotFound" in run("-n", "lab", "get", "wd", "held", fails=True)


def test_delete_by_label(run: Run) -> None:
    for name in ("one", "two"):
        run("-n", "lab", "create", "configmap", name)
        run("-n", "lab", "label", "configmap", name, "group=gone")
    assert run("-n", "lab", "delete", "cm", "-l", "group=gone").count("deleted") == 2
    assert run("-n", "lab", "get", "cm", "-l", "group=gone", "-o", "name") == ""
