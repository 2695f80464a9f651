"""`labsim bench api`: our API server and a real kube-apiserver with etcd, the same work in turn, side by side.

Each row is measured on one server and then, at once, on the other. Rates count what was answered from the moment when
all clients, each a process of its own, were connected and told to go.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labsim.cli.bench_client import BenchConnection
from labsim.cli.bench_servers import BenchServer, no_real_server, our_server, real_server
from labsim.cli.output import Format, print_document
from labsim.edge_time import monotonic_s, wait_s
from labsim.errors import ExitCode, LabError

ROW_S = 1.5  # how long each client works in a row
MOST_IN_A_ROW = 20_000  # requests of one client
WRITES = ("create", "update", "patch")
READS = ("get", "list")
CLIENTS = (1, 8)
WATCHERS = 50
WATCH_PROCESSES = 2
WATCHED_WRITES = 80
FILL_S = 60.0
WRITE_AIM = 2.0
OTHER_AIM = 1.0

GROUP = "bench.labsim.dev"
COLLECTION = f"/apis/{GROUP}/v1/namespaces/{{}}/benches"
_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_SPEC = {
    "type": "object",
    "properties": {
        "count": {"type": "integer", "minimum": 0},
        "hostname": {"type": "string"},
        "approved": {"type": "boolean"},
        "conditions": {"type": "array", "items": _OPEN},
        "disks": {"type": "array", "items": _OPEN},
    },
}
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"benches.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": "benches", "singular": "bench", "kind": "Bench", "listKind": "BenchList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": _SPEC}}},
            }
        ],
    },
}


def run_api_bench(*, objects: int, output: Format) -> int:
    """Measure and print every row. `objects`: how many are made for the row about memory."""
    why_alone = no_real_server()
    with contextlib.ExitStack() as ends:
        servers = [_started(ends, our_server)]
        if not why_alone:
            servers.append(_started(ends, real_server))
        rows = _measure(servers, objects)
    durability = {server.name: server.durability for server in servers}
    if output in (Format.JSON, Format.YAML):
        print_document({"rows": rows, "durability": durability, "noRatio": why_alone}, output)
        return int(ExitCode.PASSED)
    sys.stdout.write(ratio_table(rows, durability))
    if why_alone:
        sys.stdout.write(f"no ratio: {why_alone}\n")
    return int(ExitCode.PASSED)


def ratio_row(what: str, values: list[float], unit: str, aim: float, *, less_is_better: bool = False) -> dict[str, Any]:
    """A figure of ours and, where there is one, of theirs; the ratio is how many times better ours is."""
    row: dict[str, Any] = {"what": what, "unit": unit, "ours": round(values[0], 3), "aim": aim}
    if len(values) > 1:
        ratio = values[1] / values[0] if less_is_better else values[0] / values[1]
        row |= {"theirs": round(values[1], 3), "ratio": round(ratio, 2), "reached": ratio >= aim}
    return row


def ratio_table(rows: list[dict[str, Any]], durability: dict[str, str]) -> str:
    """The figures for a person, each with its server's durability in the column's head."""
    heads = [f"{name} ({mode})" for name, mode in durability.items()]
    lines = [f"{'FIGURE':<34}" + "".join(f" {head:>28}" for head in heads) + f" {'RATIO':>7} {'AIM':>5}  REACHED"]
    for row in rows:
        figures = [f"{row[side]:.5g} {row['unit']}" for side in ("ours", "theirs") if side in row]
        ratio = f"{row['ratio']:.2f}x" if "ratio" in row else ""
        reached = {True: "yes", False: "no", None: ""}[row.get("reached")]
        line = f"{row['what']:<34}" + "".join(f" {figure:>28}" for figure in figures)
        lines.append(f"{line} {ratio:>7} {row['aim']:>4g}x  {reached}".rstrip())
    return "\n".join(lines) + "\n"


def _started(ends: contextlib.ExitStack, start: Any) -> BenchServer:
    folder = ends.enter_context(tempfile.TemporaryDirectory(prefix="labsim-bench-", ignore_cleanup_errors=True))
    server: BenchServer = start(Path(folder))
    ends.callback(server.close)
    _prepare(server)
    return server


def _prepare(server: BenchServer) -> None:
    """The definition, the namespaces, and 100 objects that are read."""
    connection = BenchConnection(server.port, server.token)
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    asked: list[tuple[str, dict[str, Any]]] = [(definitions, DEFINITION)]
    namespace = {"apiVersion": "v1", "kind": "Namespace"}
    asked += [("/api/v1/namespaces", namespace | {"metadata": {"name": name}}) for name in ("bench", "kept", "read")]
    for path, document in asked:
        status, answer = connection.ask("POST", path, json.dumps(document).encode())
        if status != 201:
            raise LabError(f"{server.name} refuses {path}", hint=answer.decode(errors="replace")[:500])
    deadline_s = monotonic_s() + 20
    while connection.ask("GET", COLLECTION.format("read"))[0] != 200:
        if monotonic_s() > deadline_s:
            raise LabError(f"{server.name} does not serve the definition")
        wait_s(0.05)
    wait_s(0.5)  # a real server opens its storage for the new kind a moment after it is discovered
    _rate(server, "create", 1, namespace="read", count=100, for_s=20)


def _measure(servers: list[BenchServer], objects: int) -> list[dict[str, Any]]:
    start = [server.start_s for server in servers]
    rows = [ratio_row("start to ready", start, "s", WRITE_AIM, less_is_better=True)]
    # First of all, while both hold the same: the faster one has more objects of the later rows.
    sys.stderr.write(f"measuring memory with {objects} objects\n")
    for server in servers:
        _rate(server, "create", 4, namespace="kept", count=objects // 4, for_s=FILL_S, prefix="kept")
    memory = [server.memory_mib() for server in servers]
    rows.append(ratio_row(f"memory with {objects} objects", memory, "MiB", OTHER_AIM, less_is_better=True))
    for what in (*WRITES, *READS):
        for clients in CLIENTS:
            sys.stderr.write(f"measuring {what} with {clients} client(s)\n")
            namespace = "read" if what in READS else "bench"
            rates = [_rate(server, what, clients, namespace=namespace) for server in servers]
            label = f"{what}{' of 100' if what == 'list' else ''}, {clients} client{'s' if clients > 1 else ''}"
            rows.append(ratio_row(label, rates, "/s", WRITE_AIM if what in WRITES else OTHER_AIM))
    sys.stderr.write(f"measuring {WATCHERS} watchers\n")
    events = [_fan_out(server) for server in servers]
    rows.append(ratio_row(f"events to {WATCHERS} watchers", events, "/s", OTHER_AIM))
    return rows


def _rate(
    server: BenchServer,
    what: str,
    clients: int,
    *,
    namespace: str,
    count: int = MOST_IN_A_ROW,
    for_s: float = ROW_S,
    prefix: str = "bench",
) -> float:
    """Requests per second of so many clients at once; each has an object of its own."""
    work = _work(server, what, namespace, count) | {"for_s": for_s}
    names = [f"{prefix}-{clients}-{number}" for number in range(clients)]
    with _clients([work | {"name": name} for name in names]) as processes:
        return _go(processes)


def _fan_out(server: BenchServer) -> float:
    """Events that all watchers together have read per second, from the first write to the last of its events."""
    watch = _work(server, "watch", "bench", WATCHED_WRITES) | {"watchers": WATCHERS // WATCH_PROCESSES}
    write = _work(server, "patch", "bench", WATCHED_WRITES // 4) | {"for_s": FILL_S}
    writes = [write | {"name": f"watched-{number}"} for number in range(4)]
    with _clients(writes) as writers, _clients([watch] * WATCH_PROCESSES) as watchers:
        for writer in writers:
            _tell(writer, b"go\n")
        return _go(watchers)


def _work(server: BenchServer, what: str, namespace: str, count: int) -> dict[str, Any]:
    path = COLLECTION.format(namespace)
    return {"port": server.port, "token": server.token, "path": path, "what": what, "count": count}


@contextlib.contextmanager
def _clients(works: list[dict[str, Any]]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """A process for each piece of work, connected and ready to begin."""
    command = [sys.executable, "-m", "labsim.cli.bench_client"]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for work in works:
            processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            _tell(processes[-1], json.dumps(work).encode() + b"\n")
        for process in processes:
            _heard(process)
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _go(processes: list[subprocess.Popen[bytes]]) -> float:
    """Let all begin, and sum up what they did per second until the last was done."""
    started_s = monotonic_s()
    for process in processes:
        _tell(process, b"go\n")
    done = sum(json.loads(_heard(process))["done"] for process in processes)
    return float(done / (monotonic_s() - started_s))


def _tell(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


def _heard(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise LabError("a client of the measurement failed", hint="its message stands above")
    return line
