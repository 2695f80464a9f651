"""Protobuf bodies as typed Go clients send them, written here by hand from the field numbers of upstream."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubehttp_api import Api

from labsim.kube.protobuf import MAGIC, BadProtobuf, decode_body

CONTENT: dict[str, Any] = {"content_type": "application/vnd.kubernetes.protobuf"}


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value & (2**64 - 1))


def part(field: int, *contents: bytes | str) -> bytes:
    data = b"".join(item.encode() if isinstance(item, str) else item for item in contents)
    return varint(field << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return out + bytes((value,))


def body(api_version: str, kind: str, *message: bytes) -> bytes:
    return MAGIC + part(1, part(1, api_version), part(2, kind)) + part(2, *message) + part(3) + part(4)


def test_a_lease_with_microseconds() -> None:
    metadata = part(1, part(1, "leader"), part(3, "default"), part(5), part(8), number(7, 0))
    spec = part(
        2, part(1, "me"), number(2, 15), part(4, number(1, 1_704_067_200), number(2, 123_456_000)), number(5, 0)
    )
    assert decode_body(body("coordination.k8s.io/v1", "Lease", metadata, spec)) == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "leader", "namespace": "default"},
        "spec": {
            "holderIdentity": "me",
            "leaseDurationSeconds": 15,
            "renewTime": "2024-01-01T00:00:00.123456Z",
            "leaseTransitions": 0,
        },
    }


def test_maps_bytes_quantities_ports_and_inline_sources() -> None:
    secret = decode_body(body("v1", "Secret", part(1, part(1, "s")), part(2, part(1, "k"), part(2, b"\x00\xff"))))
    assert secret["data"] == {"k": "AP8="}
    probe = part(11, part(1, part(2, part(2, number(1, 0), number(2, 8080)))), number(2, 5))
    limits = part(8, part(1, part(1, "cpu"), part(2, part(1, "500m"))))
    variable = part(7, part(1, "A"), part(2, "B"))
    container = part(2, part(1, "c"), part(2, "image"), variable, limits, probe)
    volume = part(1, part(1, "v"), part(2, part(6, part(1, "mine"))))
    pod = decode_body(body("v1", "Pod", part(1, part(1, "p")), part(2, volume, container)))
    assert pod["spec"]["volumes"] == [{"name": "v", "secret": {"secretName": "mine"}}]
    [decoded] = pod["spec"]["containers"]
    assert decoded["resources"] == {"limits": {"cpu": "500m"}}
    assert decoded["env"] == [{"name": "A", "value": "B"}]
    assert decoded["readinessProbe"]["initialDelaySeconds"] == 5
    assert decoded["readinessProbe"]["httpGet"]["port"] == 8080


def test_negative_numbers_and_owner_flags() -> None:
    owner = part(13, part(1, "Job"), part(3, "j"), part(4, "u"), part(5, "batch/v1"), number(6, 1), number(7, 1))
    node = decode_body(body("v1", "Pod", part(1, part(1, "p"), owner), part(2, number(4, -5))))
    assert node["spec"]["terminationGracePeriodSeconds"] == -5
    assert node["metadata"]["ownerReferences"][0]["controller"] is True


def test_fields_of_a_later_release_are_passed_over() -> None:
    decoded = decode_body(body("v1", "ConfigMap", part(1, part(1, "c")), part(999, "new"), number(998, 3)))
    assert decoded == {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        MAGIC,
        body("v1", "Nothing"),
        body("v1", "ConfigMap", b"\x0a\xff"),
        body("v1", "ConfigMap", b"\x0f"),
        body("v1", "ConfigMap", part(1, part(1, b"\xff\xfe"))),
        body("v1", "ConfigMap", number(1, 7)),
    ],
)
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(BadProtobuf):
        decode_body(data)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_decoder(data: bytes) -> None:
    for kind in ("Pod", "Lease"):
        try:
            decoded = decode_body(body("v1" if kind == "Pod" else "coordination.k8s.io/v1", kind, data))
        except BadProtobuf:
            continue
        assert decoded["kind"] == kind


ACCEPT = "application/vnd.kubernetes.protobuf,application/json"
MAPS = "/api/v1/namespaces/default/configmaps"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "p",
        "labels": {"b": "2", "a": "1"},
        "annotations": {"a": "ü"},
        "finalizers": ["x/y"],
        "ownerReferences": [],
    },
    "spec": {
        "containers": [
            {
                "name": "c",
                "image": "i",
                "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "500m"}},
                "livenessProbe": {"httpGet": {"port": "web", "path": "/"}, "periodSeconds": 5},
                "readinessProbe": {"tcpSocket": {"port": 8080}},
            }
        ],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 420}}],
        "tolerations": [{"operator": "Exists", "tolerationSeconds": -300}],
    },
}


def test_typed_clients_are_answered_in_what_they_send() -> None:
    api = Api()
    sent = body("v1", "ConfigMap", part(1, part(1, "c")), part(2, part(1, "a"), part(2, "b")))
    made = api.ask("POST", MAPS, sent, accept=ACCEPT, **CONTENT)
    assert (made.status, made.headers["content-type"]) == (201, "application/vnd.kubernetes.protobuf")
    assert decode_body(made.body)["data"] == {"a": "b"}
    options = body("v1", "DeleteOptions", part(4, "Background"))
    api.document("DELETE", MAPS + "/c", options, **CONTENT)
    assert api.document("POST", MAPS, b"k8s\x00\xff", code=400, **CONTENT)["reason"] == "BadRequest"
    missing = decode_body(api.ask("GET", MAPS + "/c", accept=ACCEPT).body)
    assert (missing["kind"], missing["reason"], missing["details"]["name"]) == ("Status", "NotFound", "c")


def test_what_is_written_reads_as_the_same_object() -> None:
    api = Api()
    api.document("POST", "/api/v1/namespaces/default/pods", POD, code=201)
    url = "/api/v1/namespaces/default/pods/p"
    assert decode_body(api.ask("GET", url, accept=ACCEPT).body) == api.document("GET", url)
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}}
    lease["spec"] = {"renewTime": "2024-01-01T00:00:00.123456Z"}
    leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
    api.document("POST", leases, lease, code=201)
    found = decode_body(api.ask("GET", leases + "/l", accept=ACCEPT).body)
    assert found["spec"]["renewTime"] == "2024-01-01T00:00:00.123456Z"


def test_lists_bare_metadata_and_watches_have_protobuf_forms() -> None:
    api = Api()
    api.document("POST", MAPS, {"metadata": {"name": "c"}, "data": {"a": "b"}}, code=201)
    whole = api.ask("GET", MAPS, accept=ACCEPT).body
    kind = part(1, part(1, "v1"), part(2, "ConfigMapList"))
    assert whole.startswith(MAGIC + kind)
    partial = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    shaped = api.ask("GET", MAPS, accept=partial)
    assert b"PartialObjectMetadataList" in shaped.body
    assert len(shaped.body) < len(whole) + 40
    watch = api.ask("GET", MAPS + "?watch=1", accept=ACCEPT)
    assert watch.headers["content-type"] == "application/vnd.kubernetes.protobuf;stream=watch"
    assert watch.stream is not None
    frame = watch.stream.read()
    assert frame is not None
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert frame[4:].startswith(part(1, "ADDED"))
    assert MAGIC in frame
    watch.stream.close()


@pytest.mark.parametrize("shape", ["", ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"])
def test_an_empty_list_has_a_protobuf_form(shape: str) -> None:
    """As a namespace controller asks before it is content that nothing is left."""
    answered = Api().ask("GET", MAPS, accept="application/vnd.kubernetes.protobuf" + shape)
    assert answered.status == 200
    assert answered.body.startswith(MAGIC)
    assert answered.headers["content-type"].startswith("application/vnd.kubernetes.protobuf")
