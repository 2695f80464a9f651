"""Nearly valid requests, made from our own OpenAPI documents: none is a fault of ours, and none spoils what is stored.

Each example is a server of its own and a row of requests, from one seed that a failure shows. `LABSIM_FUZZ_S=600` goes
on with other seeds for that many seconds.
"""

from __future__ import annotations

import json
import os
import random  # noqa: TID251 - hypothesis hands out the seeds
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubehttp_api import ADMIN_TOKEN, StandingClock
from near_valid import (
    ACCEPTS,
    PARAMETERS,
    PATCHES,
    SUBRESOURCES,
    Kind,
    anything,
    damaged,
    definition,
    encoded,
    kinds_of,
    patch,
)

from labsim.edge_time import monotonic_s
from labsim.entropy import Entropy
from labsim.kube.authentication import authenticator
from labsim.kube.crds import hub_crds
from labsim.kube.http import KubeHttp
from labsim.kube.server import ApiServer
from labsim.kube.users import ADMIN
from labsim.model.http import Request, Response

EXAMPLES = 60
REQUESTS = 40
LONG_S = float(os.environ.get("LABSIM_FUZZ_S", "0"))
FUZZ = settings(
    max_examples=2000 if LONG_S else EXAMPLES,
    deadline=None,
    derandomize=not LONG_S,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Target:
    """One API server that is asked nonsense."""

    def __init__(self, crds: Any = ()) -> None:
        self.server = ApiServer(name="fuzz", clock=StandingClock(), entropy=Entropy(1), crds=crds)
        self.http = KubeHttp(self.server, authenticate=authenticator({ADMIN_TOKEN: ADMIN}), account_key=b"key")
        self.told: list[str] = []

    def ask(
        self, method: str, path: str, query: tuple[tuple[str, str], ...] = (), body: bytes = b"", **headers: str
    ) -> Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent["authorization"] = f"Bearer {ADMIN_TOKEN}"
        self.told.append(f"{method} {path} {query} {headers} {body[:3000]!r}")
        answer = self.http.handle(Request(method=method, path=path, query=query, headers=sent, body=body))
        self.check(answer)
        return answer

    def check(self, answer: Response) -> None:
        assert 200 <= answer.status < 600
        if answer.headers.get("content-type", "").startswith("application/json") and answer.stream is None:
            document = answer.json()
            if answer.status >= 500:
                # Upstream answers some mistakes of clients so; but for a Scale, what it says then has no reason.
                is_known = "reason" not in document or "replicas field" in document["message"]
                assert is_known or answer.status == 504, document

    def document(self, path: str) -> Any:
        return json.loads(self.ask("GET", path).body)

    def kinds(self) -> list[Kind]:
        paths = self.document("/openapi/v3")["paths"]
        return [kind for path in sorted(paths) for kind in kinds_of(self.document(f"/openapi/v3/{path}"))]


def _crds_by_group() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {"": []}
    for crd in hub_crds():
        found.setdefault(crd["spec"]["group"], []).append(crd)
    return found


CRDS = _crds_by_group()
KINDS = {group: Target(crds).kinds() for group, crds in CRDS.items()}
for _group in set(KINDS) - {""}:
    KINDS[_group] = [kind for kind in KINDS[_group] if kind.api_version.startswith(_group + "/")]
THING = kinds_of(
    {
        "components": {"schemas": {}},
        "paths": {
            "/apis/fuzz.test/v1/namespaces/{namespace}/things": {
                "post": {
                    "x-kubernetes-group-version-kind": {"group": "fuzz.test", "version": "v1", "kind": "Thing"},
                    "requestBody": {
                        "content": {
                            "*/*": {
                                "schema": {
                                    "type": "object",
                                    "properties": {name: {} for name in ("a", "b", "c", "spec", "status", "metadata")},
                                }
                            }
                        }
                    },
                }
            }
        },
    }
)[0]


def one_request(target: Target, kind: Kind, rnd: random.Random, streams: list[Any]) -> None:
    """Ask something about a kind."""
    wrong = rnd.choice([0.0, 0.02, 0.1])
    namespace = rnd.choice(["default"] * 8 + ["missing", "kube-system"])
    path = kind.collection.replace("{namespace}", namespace)
    method = rnd.choice(["GET", "POST", "POST", "POST", "PUT", "PATCH", "PATCH", "PATCH", "DELETE", "HEAD"])
    named = method in ("PUT", "PATCH") or (method != "POST" and rnd.random() < 0.6)
    is_deeper = method == "POST" and rnd.random() < 0.2
    if named != (rnd.random() < 0.03) or is_deeper:
        path += "/" + rnd.choice(["one", "two"])
        if is_deeper or rnd.random() < 0.25:
            path += "/" + rnd.choice(SUBRESOURCES)
    query = tuple(
        (name, rnd.choice(PARAMETERS[name]))
        for name in rnd.sample(sorted(PARAMETERS), rnd.choice([0, 0, 0, 1, 1, 2, 3]))
    )
    obj = kind.object(rnd, wrong)
    headers = {"accept": rnd.choice(ACCEPTS)} if rnd.random() < 0.4 else {}
    body = b""
    if method == "PATCH":
        patch_type = rnd.choice(PATCHES)
        obj = patch(rnd, patch_type, obj, wrong)
        headers["content_type"] = patch_type
        body = json.dumps(obj).encode()
        if patch_type == PATCHES[3] and rnd.random() < 0.9:
            query = (("fieldManager", rnd.choice("mn")), ("force", "true"), *query)
        if rnd.random() < 0.05:
            body = damaged(rnd, body)
    elif method in ("POST", "PUT"):
        headers["content_type"], body = encoded(rnd, obj, plain_only="." in kind.api_version)
    elif method == "DELETE" and rnd.random() < 0.5:
        options: dict[str, Any] = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "preconditions": {"uid": "x"},
            "dryRun": ["All"],
        }
        options |= {"gracePeriodSeconds": 0, "propagationPolicy": "Foreground", "orphanDependents": True}
        chosen: Any = {name: value for name, value in options.items() if rnd.random() < 0.4}
        if chosen and rnd.random() < 0.2:
            chosen[rnd.choice(list(chosen))] = anything(rnd)
        body = json.dumps(chosen).encode()
    answer = target.ask(method, path, query, body, **headers)
    if answer.stream is not None:
        streams.append(answer.stream)


def still_whole(target: Target, kind: Kind) -> None:
    """Whatever was stored, it can be listed, in every form, and taken away."""
    path = kind.collection.replace("{namespace}", "default")
    for accept in ("application/json", *ACCEPTS[2:4], *ACCEPTS[6:]):
        target.ask("GET", path, accept=accept)
    listed = target.ask("GET", path)
    if listed.status != 200:
        return
    for item in listed.json()["items"]:
        name = item["metadata"]["name"]
        assert target.ask("GET", f"{path}/{name}").status == 200
        removed = b'{"metadata":{"finalizers":null}}'
        target.ask("PATCH", f"{path}/{name}", (), removed, content_type="application/merge-patch+json")
        target.ask("DELETE", f"{path}/{name}", (("gracePeriodSeconds", "0"),))


def row_of_requests(rnd: random.Random, target: Target, kinds: list[Kind]) -> None:
    streams: list[Any] = []
    try:
        for _ in range(REQUESTS):
            one_request(target, rnd.choice(kinds), rnd, streams)
        for kind in kinds:
            still_whole(target, kind)
        for stream in streams:
            stream.keep_alive()
            for line in (stream.read() or b"").splitlines() if not stream._protobuf else ():
                orjson.loads(line)
            stream.expire()
            stream.close()
        assert target.server.store._everybody == (), "a watch is still listened for"
    except Exception as problem:
        problem.add_note("\n".join(target.told[-3:]))
        raise


def for_a_while(test: Any) -> None:
    """Once; or again with other seeds, for as long as the environment says."""
    until_s = monotonic_s() + LONG_S / 2
    while True:
        test()
        if monotonic_s() >= until_s:
            return


def test_requests_made_of_our_own_documents_are_never_a_fault_of_ours() -> None:
    @FUZZ
    @given(rnd=st.randoms(use_true_random=True), group=st.sampled_from(sorted(CRDS)))
    def check(rnd: random.Random, group: str) -> None:
        row_of_requests(rnd, Target(CRDS[group]), rnd.sample(KINDS[group], min(2, len(KINDS[group]))))

    for_a_while(check)


def test_definitions_and_their_objects_are_never_a_fault_of_ours() -> None:
    @FUZZ
    @given(rnd=st.randoms(use_true_random=True))
    def check(rnd: random.Random) -> None:
        target = Target()
        made = json.dumps(definition(rnd)).encode()
        target.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", (), made)
        target.ask("GET", "/openapi/v3/apis/fuzz.test/v1")
        target.ask("GET", "/openapi/v2")
        row_of_requests(rnd, target, [THING])
        other = definition(rnd)["spec"]
        for body in ({"spec": other}, {"spec": {"versions": other["versions"]}}):
            path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.fuzz.test"
            target.ask("PATCH", path, (), json.dumps(body).encode(), content_type="application/merge-patch+json")
            target.ask("GET", "/openapi/v3/apis/fuzz.test/v1")
        row_of_requests(rnd, target, [THING])

    for_a_while(check)
