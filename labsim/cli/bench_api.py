"""`labsim bench api`: our API server, in memory and with its log on the disk, and a real kube-apiserver with etcd.

Each row is measured on one server and then, at once, on the next. Rates count what was answered from the moment when
all clients, each a process of its own, were connected and told to go.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from labsim.cli.bench_client import BenchConnection
from labsim.cli.bench_servers import BenchServer, no_real_server, our_lab, our_server, real_server
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
STARTS = 3
FILL_S = 240.0
AGENT_DISKS = 80  # per letter: an object has the size of an Agent then
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
        servers = [_started(ends, our_server), _started(ends, our_lab)]
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
    """Our figures (in memory, on the disk) and, where there is one, theirs; a ratio: how many times better ours is."""
    memory, disk, *theirs = values
    row: dict[str, Any] = {
        "what": what,
        "unit": unit,
        "inMemory": round(memory, 3),
        "onDisk": round(disk, 3),
        "aim": aim,
    }
    if theirs:
        better = [theirs[0] / ours if less_is_better else ours / theirs[0] for ours in (memory, disk)]
        row |= {"theirs": round(theirs[0], 3), "ratioInMemory": round(better[0], 2), "ratioOnDisk": round(better[1], 2)}
        row["reached"] = min(better) >= aim
    return row


def ratio_table(rows: list[dict[str, Any]], durability: dict[str, str]) -> str:
    """The figures for a person, each with its server's durability in the column's head."""
    heads = [f"{name} ({mode})" for name, mode in durability.items()]
    lines = [f"{'FIGURE':<28}" + "".join(f" {head:>28}" for head in heads) + f" {'RATIOS':>13} {'AIM':>4}  REACHED"]
    for row in rows:
        figures = [f"{row[side]:.5g} {row['unit']}" for side in ("inMemory", "onDisk", "theirs") if side in row]
        ratios = f"{row['ratioInMemory']:.2f}x {row['ratioOnDisk']:.2f}x" if "theirs" in row else ""
        reached = {True: "yes", False: "no", None: ""}[row.get("reached")]
        line = f"{row['what']:<28}" + "".join(f" {figure:>28}" for figure in figures)
        lines.append(f"{line} {ratios:>13} {row['aim']:>3g}x  {reached}".rstrip())
    return "\n".join(lines) + "\n"


def _started(ends: contextlib.ExitStack, start: Callable[[Path], BenchServer]) -> BenchServer:
    """A server that is ready for the measurements; its start is the fastest of several."""
    sys.stderr.write("measuring a start\n")
    starts = []
    for _ in range(STARTS - 1):
        with contextlib.ExitStack() as once:
            starts.append(_start(once, start).start_s)
    server = _start(ends, start)
    server.start_s = min(server.start_s, *starts)
    _prepare(server)
    return server


def _start(ends: contextlib.ExitStack, start: Callable[[Path], BenchServer]) -> BenchServer:
    folder = ends.enter_context(tempfile.TemporaryDirectory(prefix="labsim-bench-", ignore_cleanup_errors=True))
    server = start(Path(folder))
    ends.callback(server.close)
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
        _fill(server, objects)
    memory = [server.memory_mib() for server in servers]
    rows.append(ratio_row(f"memory, {objects} agents", memory, "MiB", OTHER_AIM, less_is_better=True))
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
) -> float:
    """Requests per second of so many clients at once; each has an object of its own."""
    work = _work(server, what, namespace, count) | {"for_s": for_s}
    names = [f"bench-{clients}-{number}" for number in range(clients)]
    with _clients([work | {"name": name} for name in names]) as processes:
        return _go(processes)


def _fill(server: BenchServer, objects: int) -> None:
    """Objects of an Agent's size. LabError where the server does not take as many in time."""
    work = _work(server, "create", "kept", objects // 4) | {"for_s": FILL_S, "disks": AGENT_DISKS}
    with _clients([work | {"name": f"kept-{number}"} for number in range(4)]) as processes:
        _go(processes)


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
