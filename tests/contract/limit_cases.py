"""Requests at and beyond the limits of an API server, as bytes: too large, too many, too deep, malformed.

Sent in this order to a server that knows the two tokens; what a real one answers is in limits/recorded.json.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
from typing import Any

ADMIN_TOKEN, USER_TOKEN = "admin-token", "user-token"
MAPS = "/api/v1/namespaces/default/configmaps"
BIGS = "/apis/lim.test/v1/namespaces/default/bigs"
MIB = 1 << 20
ANSWERED_WITHIN_S = 20.0
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
YAML, PROTOBUF = "application/yaml", "application/vnd.kubernetes.protobuf"
CHUNKED = "Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n"
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "bigs.lim.test"},
    "spec": {
        "group": "lim.test",
        "names": {"kind": "Big", "plural": "bigs"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def request(
    method: str,
    target: str,
    headers: str = "",
    body: bytes = b"",
    *,
    kind: str = "application/json",
    length: object = None,
    version: str = "HTTP/1.1",
    token: str = ADMIN_TOKEN,
) -> bytes:
    head = f"{method} {target} {version}\r\nHost: x\r\n"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    head += headers
    if body or length is not None:
        head += f"Content-Type: {kind}\r\nContent-Length: {len(body) if length is None else length}\r\n"
    return head.encode("latin-1") + b"\r\n" + body


def config_map(name: str, size: int = 1) -> bytes:
    metadata = {"name": name}
    return json.dumps(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "x" * size}}
    ).encode()


def big(name: str, **more: Any) -> bytes:
    return json.dumps({"apiVersion": "lim.test/v1", "kind": "Big", "metadata": {"name": name}, **more}).encode()


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def _sizes() -> dict[str, bytes]:
    full = config_map("full", 3 * MIB - 200)
    full += b" " * (3 * MIB - len(full))
    add = [{"op": "add", "path": "/data/a", "value": "1"}]
    copies = [{"op": "add", "path": "/b", "value": "x" * 1000}, {"op": "add", "path": "/c", "value": {}}]
    copies += [{"op": "copy", "from": "", "path": f"/c/k{number}"} for number in range(30)]
    annotated = {"metadata": {"name": "annotated", "annotations": {"a": "x" * 262_145}}}
    large = b'{"a":"' + b"x" * (3 * MIB) + b'"}'
    ten_thousand, one_more = (json.dumps(add * count).encode() for count in (10_000, 10_001))
    return {
        "body/3MiB": request("POST", MAPS, body=full),
        "body/over-3MiB": request("POST", MAPS, body=full + b" "),
        "body/over-3MiB-chunked": request("POST", MAPS, CHUNKED)
        + (b"10000\r\n" + b"x" * 65_536 + b"\r\n") * 50
        + b"0\r\n\r\n",
        "body/over-3MiB-by-nobody": request("POST", MAPS, body=full + b" ", token=""),
        "body/over-3MiB-by-who-may-not": request("POST", MAPS, body=full + b" ", token=USER_TOKEN),
        "body/over-3MiB-of-a-get": request("GET", MAPS, body=large),
        "body/over-3MiB-of-version": request("GET", "/version", body=large),
        "body/over-3MiB-of-a-delete": request("DELETE", f"{MAPS}/c", body=large),
        "body/over-3MiB-merged": request("PATCH", f"{MAPS}/c", body=large, kind=MERGE),
        "body/over-3MiB-applied": request("PATCH", f"{MAPS}/c?fieldManager=x", body=large, kind=APPLY),
        "object/config-map": request("POST", MAPS, body=config_map("over", 1_100_000)),
        "object/annotations": request("POST", MAPS, body=json.dumps(annotated).encode()),
        "object/small": request("POST", BIGS, body=big("p", a="x")),
        "object/map": request("POST", MAPS, body=config_map("c")),
        "object/below-etcd": request("POST", BIGS, body=big("b1", a="x" * 1_570_000)),
        "object/above-etcd": request("POST", BIGS, body=big("b2", a="x" * 1_573_000)),
        "object/above-grpc": request("POST", BIGS, body=big("b3", a="x" * 2_200_000)),
        "object/grown-by-a-patch": request("PATCH", f"{BIGS}/p", body=big("p", a="x" * 1_700_000), kind=MERGE),
        "object/name": request("POST", MAPS, body=config_map("a" * 254)),
        "patch/operations-10000": request("PATCH", f"{MAPS}/c", body=ten_thousand, kind=JSON_PATCH),
        "patch/operations-10001": request("PATCH", f"{MAPS}/c", body=one_more, kind=JSON_PATCH),
        "patch/copies": request("PATCH", f"{BIGS}/p", body=json.dumps(copies).encode(), kind=JSON_PATCH),
        "head/1000000": request("GET", "/version", f"X-A: {'a' * 1_000_000}\r\n"),
        "head/1051576": request("GET", "/version", f"X-A: {'a' * 1_051_576}\r\n"),
        "head/1053576": request("GET", "/version", f"X-A: {'a' * 1_053_576}\r\n"),
        "head/lines-10000": request("GET", "/version", "".join(f"X-{n}: a\r\n" for n in range(10_000))),
        "head/lines-100000": request("GET", "/version", "".join(f"X-{n}: a\r\n" for n in range(100_000))),
        "head/token": request("GET", "/api", f"Authorization: Bearer {'a' * 500_000}\r\n", token=""),
        "url/path": request("GET", f"/api/v1/namespaces/{'a' * 100_000}"),
        "url/query": request("GET", f"/version?{'a' * 100_000}"),
        "url/selector": request("GET", f"{MAPS}?labelSelector={'a' * 9000}"),
        "url/selector-of-many": request("GET", f"{MAPS}?labelSelector=a+in+({','.join(f'v{n}' for n in range(5000))})"),
        "url/2MiB": request("GET", f"/version?{'a' * 2 * MIB}"),
    }


def _depths() -> dict[str, bytes]:
    start = b'{"apiVersion":"lim.test/v1","kind":"Big","metadata":{"name":"%b"},"x":%b}'
    made: dict[str, bytes] = {}
    for depth in (100, 10_001):
        deep = nested(depth)
        made |= {
            f"depth/create-{depth}": request("POST", BIGS, body=start % (b"deep", deep)),
            f"depth/merge-{depth}": request("PATCH", f"{BIGS}/p", body=b'{"y":%b}' % deep, kind=MERGE),
            f"depth/strategic-{depth}": request("PATCH", f"{MAPS}/c", body=b'{"y":%b}' % deep, kind=STRATEGIC),
            f"depth/json-patch-{depth}": request(
                "PATCH", f"{BIGS}/p", body=b'[{"op":"add","path":"/z","value":%b}]' % deep, kind=JSON_PATCH
            ),
            f"depth/apply-{depth}": request(
                "PATCH", f"{BIGS}/p?fieldManager=x&force=true", body=start % (b"p", deep), kind=APPLY
            ),
            f"depth/yaml-{depth}": request("POST", BIGS, body=b"a: " + start % (b"y", deep), kind=YAML),
        }
    bomb = b'a: &a ["x","x","x","x","x","x","x","x","x"]\n'
    for before, name in zip(b"abcdef", b"bcdefg", strict=True):
        bomb += b"%c: &%c [%b]\n" % (name, name, b",".join([b"*%c" % before] * 9))
    itself = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: itself}\na: &a [*a]\n"
    return {
        **made,
        "depth/only-brackets": request("POST", MAPS, body=b"[" * 20_000),
        "yaml/aliases": request("POST", MAPS, body=bomb + b"metadata: {name: bomb}\n", kind=YAML),
        "yaml/aliases-applied": request("PATCH", f"{MAPS}/bomb?fieldManager=x", body=bomb, kind=APPLY),
        "yaml/itself": request("POST", MAPS, body=itself, kind=YAML),
        "yaml/itself-applied": request("PATCH", f"{MAPS}/itself?fieldManager=x", body=itself, kind=APPLY),
    }


def _bodies() -> dict[str, bytes]:
    start = b'{"apiVersion":"lim.test/v1","kind":"Big","metadata":{"name":"%b"},"a":%b}'
    return {
        "text/no-utf8-value": request("POST", MAPS, body=b'{"metadata":{"name":"u8"},"data":{"a":"\xff\xfe"}}'),
        "text/no-utf8-name": request("POST", MAPS, body=b'{"metadata":{"name":"u\xff"}}'),
        "text/no-utf8-key": request("POST", MAPS, body=b'{"metadata":{"name":"u"},"data":{"\xff":"b"}}'),
        "text/no-utf8-custom": request("POST", BIGS, body=start % (b"u8", b'"\xff"')),
        "text/no-utf8-merged": request("PATCH", f"{BIGS}/p", body=b'{"q":"\xff"}', kind=MERGE),
        "text/no-utf8-applied": request(
            "PATCH", f"{BIGS}/p?fieldManager=x", body=start % (b"p", b'"\xff"'), kind=APPLY
        ),
        "text/half-a-pair": request("POST", BIGS, body=start % (b"pair", b'"\\ud800"')),
        "text/byte-order-mark": request("POST", MAPS, body=b'\xef\xbb\xbf{"metadata":{"name":"bom"}}'),
        "text/utf16": request("POST", MAPS, body='{"metadata":{"name":"bom"}}'.encode("utf-16")),
        "text/nul": request("POST", MAPS, body=b'{"metadata":{"name":"nul"},"data":{"a":"\\u0000"}}'),
        "number/30-digits": request("POST", BIGS, body=start % (b"hi", b"9" * 30)),
        "number/nan": request("POST", BIGS, body=start % (b"nan", b"NaN")),
        "body/none": request("POST", MAPS),
        "body/empty": request("POST", MAPS, length=0),
        "body/empty-patch": request("PATCH", f"{MAPS}/c", length=0, kind=MERGE),
        "body/empty-json-patch": request("PATCH", f"{MAPS}/c", length=0, kind=JSON_PATCH),
        "body/empty-apply": request("PATCH", f"{MAPS}/c?fieldManager=x", length=0, kind=APPLY),
        "body/two": request("POST", MAPS, body=config_map("two") + b"{}"),
        "body/gzip-unsaid": request("POST", MAPS, "Content-Encoding: gzip\r\n", b"\x1f\x8b\x08\x00"),
        "type/other": request("POST", MAPS, body=b"{}", kind="\xff"),
        "type/cbor": request("POST", MAPS, body=b"\xa0", kind="application/cbor"),
        "type/protobuf-empty": request("POST", MAPS, length=0, kind=PROTOBUF),
        "type/charset": request("POST", MAPS, body=config_map("charset"), kind="application/json; charset=latin-1"),
    }


def _transport() -> dict[str, bytes]:
    empty = b"2\r\n{}\r\n0\r\n\r\n"
    return {
        "length/negative": request("POST", MAPS, body=b"{}", length=-1),
        "length/plus": request("POST", MAPS, body=b"{}", length="+2"),
        "length/letters": request("POST", MAPS, body=b"{}", length="abc"),
        "length/huge": request("POST", MAPS, body=b"{}", length=10**30),
        "length/two-that-differ": request("POST", MAPS, "Content-Length: 3\r\n", b"{}"),
        "length/two-alike": request("POST", MAPS, "Content-Length: 2\r\n", b"{}"),
        "length/list": request("POST", MAPS, body=b"{}", length="2, 2"),
        "length/beside-chunks": request("POST", MAPS, CHUNKED, empty, length=2),
        "coding/gzip": request("POST", MAPS, "Transfer-Encoding: gzip\r\n"),
        "coding/gzip-chunked": request("POST", MAPS, "Transfer-Encoding: gzip, chunked\r\n") + empty,
        "coding/identity": request("GET", "/version", "Transfer-Encoding: identity\r\n"),
        "chunk/fine": request("POST", MAPS, CHUNKED) + empty,
        "chunk/extension": request("POST", MAPS, CHUNKED) + b"2;a=b\r\n{}\r\n0\r\n\r\n",
        "chunk/trailer": request("POST", MAPS, CHUNKED) + b"2\r\n{}\r\n0\r\nX: y\r\n\r\n",
        "chunk/bad-size": request("POST", MAPS, CHUNKED) + b"zz\r\n{}\r\n0\r\n\r\n",
        "chunk/huge-size": request("POST", MAPS, CHUNKED) + b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        "version/1.0": request("GET", "/readyz", version="HTTP/1.0"),
        "version/1.2": request("GET", "/readyz", version="HTTP/1.2"),
        "version/2.0": request("GET", "/readyz", version="HTTP/2.0"),
        "version/9.9": request("GET", "/readyz", version="HTTP/9.9"),
        "version/0.9": b"GET /readyz\r\n\r\n",
        "version/x": request("GET", "/readyz", version="HTTP/x.y"),
        "host/none": b"GET /readyz HTTP/1.1\r\n\r\n",
        "host/two": b"GET /readyz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "host/space": b"GET /readyz HTTP/1.1\r\nHost: a b\r\n\r\n",
        "host/slash": b"GET /readyz HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "host/latin": b"GET /readyz HTTP/1.1\r\nHost: \xe9\r\n\r\n",
        "host/empty": b"GET /readyz HTTP/1.1\r\nHost:\r\n\r\n",
        "target/absolute": request("GET", "http://other/readyz"),
        "target/authority": request("CONNECT", "a:1"),
        "target/star": request("GET", "*"),
        "target/relative": request("GET", "readyz"),
        "target/space": request("GET", "/ready z"),
        "target/nul": request("GET", "/ready\0z"),
        "target/fragment": request("GET", "/readyz#a"),
        "target/raw-utf8": request("GET", f"{MAPS}/\xc3\xa9"),
        "escape/bad": request("GET", f"{MAPS}/%zz"),
        "escape/half": request("GET", f"{MAPS}/%2"),
        "escape/slash": request("GET", f"{MAPS}/a%2Fb"),
        "escape/segment": request("GET", "/%61pi/v1/namespaces/default/configmaps/c"),
        "escape/dots": request("GET", "/api/v1/namespaces/%2e%2e/nodes"),
        "path/dots": request("GET", "/api/v1/namespaces/../nodes"),
        "path/double-slash": request("GET", "/api//v1/nodes"),
        "path/leading-slashes": request("GET", "//api/v1/nodes"),
        "header/no-colon": request("GET", "/readyz", "abc\r\n"),
        "header/nul": request("GET", "/readyz", "X-A: a\0b\r\n"),
        "header/control": request("GET", "/readyz", "X-A: a\x01b\r\n"),
        "header/latin": request("GET", "/readyz", "X-A: a\xffb\r\n"),
        "header/latin-name": request("GET", "/readyz", "X-\xff: a\r\n"),
        "header/folded": request("GET", "/readyz", "X-A: a\r\n b\r\n"),
        "header/line-feeds-only": b"GET /readyz HTTP/1.1\nHost: x\n\n",
        "header/carriage-return": request("GET", "/readyz", "X: a\rb\r\n"),
        "twice/token": request("GET", MAPS, "Authorization: Bearer wrong\r\n"),
        "twice/accept": request("GET", "/api/v1", "Accept: application/json\r\nAccept: application/xml\r\n"),
        "token/basic": request("GET", "/api", "Authorization: Basic YTpi\r\n", token=""),
        "token/empty": request("GET", "/api", "Authorization: Bearer \r\n", token=""),
        "token/two": request("GET", "/api", "Authorization: Bearer a b\r\n", token=""),
        "token/binary": request("GET", "/api", "Authorization: Bearer \xff\xfe\r\n", token=""),
        "method/lower": request("get", "/readyz"),
        "method/at": request("G@T", "/readyz"),
        "method/long": request("A" * 100, "/readyz"),
        "method/unknown": request("FROB", MAPS),
        "method/digits": request("M1", MAPS),
        "method/trace": request("TRACE", MAPS),
        "method/post-of-version": request("POST", "/version", body=b"x"),
        "expect/other": request("POST", MAPS, "Expect: nothing\r\n", config_map("expected")),
        "garbage/bytes": bytes(range(256)) * 4,
    }


NOT_A_TOKEN = {
    "garbage": "garbage",
    "empty-object": "e30",
    "array": "W10",
    "text-revision": "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6ImEiLCJzdGFydCI6ImEifQ",
    "dots": "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIuLi9hIn0",
    "number-start": "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOjd9",
    "fraction": "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MS41LCJzdGFydCI6ImEifQ",
    "future": "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6OTk5OTk5OTk5LCJzdGFydCI6ImEifQ",
    "nul": "%00",
}
QUERIES = [
    *("limit=-1", "limit=abc", "limit=99999999999999999999", "limit=9223372036854775807", "limit=1.5", "limit="),
    *("limit=1&limit=2", "limit=%00", "limit=0x10", "limit=+5", "limit=%2B5", "limit=1_000", "limit=%D9%A1"),
    *("limit=1;limit=2", "limit=%zz", "resourceVersion=abc", "resourceVersion=-1", "resourceVersion=1.5"),
    *("resourceVersion=99999999999999999999", "resourceVersionMatch=abc", "resourceVersion=1&resourceVersionMatch=abc"),
    *("timeoutSeconds=abc", "timeoutSeconds=99999999999999999999", "watch=1&timeoutSeconds=abc"),
    *("watch=true&resourceVersion=abc", "watch=true&timeoutSeconds=99999999999999999999"),
    *("watch=true&timeoutSeconds=9223372036854775807", "labelSelector=((((", "labelSelector=a+in"),
    *("labelSelector=a%2Fb%2Fc", "labelSelector=,", "labelSelector=!", "labelSelector=a%3E5x"),
    *("labelSelector=a%3E99999999999999999999", "fieldSelector=a", "fieldSelector=a%3Db", "fieldSelector=,"),
    *("fieldSelector=metadata.name%3Da%5Cb", "fieldSelector=metadata.name!%3Da%3Db", "sendInitialEvents=true"),
    *("timeout=abc", "timeout=5", "timeout=0", "x=y&&&=", "%3D"),
]
OPTIONS = [
    *("POST dryRun=abc", "POST fieldValidation=abc", f"POST fieldManager={'a' * 129}", "POST fieldManager=%00"),
    *("POST timeout=abc", "DELETE gracePeriodSeconds=abc", "DELETE gracePeriodSeconds=99999999999999999999"),
    *("DELETE propagationPolicy=abc", "DELETE orphanDependents=true&propagationPolicy=Orphan", "DELETE dryRun=abc"),
    *("PATCH force=true", "PATCH timeout=abc"),
]


def _parameters() -> dict[str, bytes]:
    made = {f"list?{query}": request("GET", f"{MAPS}?{query}") for query in QUERIES}
    made |= {
        f"continue/{name}": request("GET", f"{MAPS}?limit=1&continue={text}") for name, text in NOT_A_TOKEN.items()
    }
    for option in OPTIONS:
        method, _, query = option.partition(" ")
        target = {"POST": MAPS, "DELETE": f"{MAPS}/missing", "PATCH": f"{MAPS}/c"}[method]
        body = config_map("options") if method == "POST" else b"{}" if method == "PATCH" else b""
        kind = MERGE if method == "PATCH" else "application/json"
        name = f"{method}?{query[:40]}"
        made[name] = request(method, f"{target}?{query}", body=body, kind=kind)
    return made


FIRST = request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body=json.dumps(DEFINITION).encode())
CASES: dict[str, bytes] = _sizes() | _depths() | _bodies() | _transport() | _parameters()


def ask(port: int, sent: bytes) -> dict[str, Any]:
    """Send bytes on a connection of their own; what the answer is, without what differs from run to run."""
    context = ssl._create_unverified_context()
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=ANSWERED_WITHIN_S)) as connection:
        with contextlib.suppress(OSError):  # it may be refused before all of it is there
            connection.sendall(sent)
        response = http.client.HTTPResponse(connection)
        response.begin()
        found: dict[str, Any] = {"status": response.status}
        if response.status >= 300:
            found["type"] = (response.headers["Content-Type"] or "").partition(";")[0]
            found["body"] = _comparable(response.read())
    return found


def _comparable(body: bytes) -> Any:
    text = re.sub(r"\(\d+ vs\.|current: \d+", "...", body.decode("utf-8", "replace"))
    if not text.startswith("{"):
        return text
    document = json.loads(text)
    if len(document.get("message", "")) > 400:
        document = {"message": document["message"][:400]}
    return document
