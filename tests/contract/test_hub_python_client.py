"""The official Python client against the embedded hub and a real kube-apiserver: typed, custom objects and dynamic."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kubehttp_serving import SERVERS, WIDGETS, Served, serving

kubernetes = pytest.importorskip("kubernetes", reason="the Python client is missing; pip install kubernetes")
from kubernetes import client, config, dynamic, watch  # noqa: E402
from kubernetes.client.rest import ApiException  # noqa: E402

GROUP = ("contract.test", "v1")


@pytest.fixture(scope="module", params=SERVERS)
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("hub"), request.param) as made:
        yield made


@pytest.fixture(scope="module")
def api(hub: Served) -> Iterator[Any]:
    made = config.new_client_from_config(config_file=str(hub.kubeconfig))
    client.CoreV1Api(made).create_namespace({"metadata": {"name": "lab"}})
    client.ApiextensionsV1Api(made).create_custom_resource_definition(WIDGETS)
    yield made
    made.close()


def widget(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "contract.test/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}


def test_typed_config_maps(api: Any) -> None:
    core = client.CoreV1Api(api)
    made = core.create_namespaced_config_map("lab", {"metadata": {"name": "typed"}, "data": {"a": "1"}})
    assert made.metadata.uid
    core.patch_namespaced_config_map("typed", "lab", {"data": {"b": "2"}})
    core.patch_namespaced_config_map("typed", "lab", [{"op": "add", "path": "/data/c", "value": "3"}])
    assert core.read_namespaced_config_map("typed", "lab").data == {"a": "1", "b": "2", "c": "3"}
    made.data = {"x": "y"}
    with pytest.raises(ApiException) as stale:
        core.replace_namespaced_config_map("typed", "lab", made)
    assert stale.value.status == 409
    core.delete_namespaced_config_map("typed", "lab")
    with pytest.raises(ApiException) as gone:
        core.read_namespaced_config_map("typed", "lab")
    assert gone.value.status == 404
    assert core.list_namespaced_config_map("lab", label_selector="none=here").items == []


def test_custom_objects_with_status_and_scale(api: Any) -> None:
    custom = client.CustomObjectsApi(api)
    place = (*GROUP, "lab", "widgets")
    custom.create_namespaced_custom_object(*place, widget("w", size=1, replicas=1))
    custom.patch_namespaced_custom_object(*place, "w", {"spec": {"size": 2}})
    custom.patch_namespaced_custom_object_status(*place, "w", {"status": {"replicas": 1}})
    custom.patch_namespaced_custom_object_scale(*place, "w", {"spec": {"replicas": 4}})
    scale = custom.get_namespaced_custom_object_scale(*place, "w")
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (4, 1)
    found = custom.get_namespaced_custom_object(*place, "w")
    assert found["spec"] == {"size": 2, "replicas": 4, "color": "red"}
    assert [item["metadata"]["name"] for item in custom.list_cluster_custom_object(*GROUP, "widgets")["items"]] == ["w"]
    with pytest.raises(ApiException) as invalid:
        custom.patch_namespaced_custom_object(*place, "w", {"spec": {"size": -1}})
    assert invalid.value.status == 422


def test_the_dynamic_client_finds_kinds_and_applies(api: Any) -> None:
    finder = dynamic.DynamicClient(api)
    finder.resources.invalidate_cache()
    widgets = finder.resources.get(api_version="contract.test/v1", kind="Widget")
    applied = widgets.server_side_apply(
        body=widget("dynamic", size=3), name="dynamic", namespace="lab", field_manager="contract"
    )
    assert applied.spec.size == 3
    assert [entry.manager for entry in applied.metadata.managedFields] == ["contract"]
    assert widgets.get(name="dynamic", namespace="lab").spec.color == "red"
    widgets.delete(name="dynamic", namespace="lab")


def test_watch_goes_on_from_a_list(api: Any) -> None:
    core = client.CoreV1Api(api)
    listed = core.list_namespaced_secret("lab")
    started = threading.Event()

    def write() -> None:
        started.wait(10)
        core.create_namespaced_secret("lab", {"metadata": {"name": "s"}, "stringData": {"a": "b"}})
        core.patch_namespaced_secret("s", "lab", {"metadata": {"labels": {"x": "y"}}})
        core.delete_namespaced_secret("s", "lab")

    writer = threading.Thread(target=write)
    writer.start()
    started.set()
    stream = watch.Watch().stream(
        core.list_namespaced_secret, "lab", resource_version=listed.metadata.resource_version, timeout_seconds=10
    )
    seen = []
    for event in stream:
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            break
    writer.join(10)
    assert seen == [("ADDED", "s"), ("MODIFIED", "s"), ("DELETED", "s")]


def test_a_watch_ends_at_its_timeout_and_says_410_for_a_start_that_is_gone(api: Any) -> None:
    core = client.CoreV1Api(api)
    version = core.list_namespaced_secret("lab").metadata.resource_version
    stream = watch.Watch().stream(core.list_namespaced_secret, "lab", resource_version=version, timeout_seconds=1)
    assert list(stream) == []
    with pytest.raises(ApiException) as gone:
        for _ in watch.Watch().stream(core.list_namespaced_secret, "lab", resource_version="1", timeout_seconds=5):
            pass
    assert gone.value.status == 410


def test_version_and_refused_tokens(api: Any, hub: Served) -> None:
    assert client.VersionApi(api).get_code().major == "1"
    settings = client.Configuration(host=hub.url)
    settings.verify_ssl = True
    settings.ssl_ca_cert = api.configuration.ssl_ca_cert
    settings.api_key = {"authorization": "Bearer wrong"}
    with client.ApiClient(settings) as stranger, pytest.raises(ApiException) as refused:
        client.CoreV1Api(stranger).list_namespace()
    assert refused.value.status == 401
