"""What clients of a lab's hub did, as its history tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labsim.lab.lab import Lab, LabOptions
from labsim.lab.serving import Serving
from labsim.model.http import Request
from labsim.model.scenario import load_scenario

SPEC = load_scenario(Path(__file__).parents[3] / "scenarios" / "label-selector.yaml").spec.lab
NAMESPACES = "/api/v1/namespaces"


def test_each_request_is_told_with_program_connection_and_what_it_came_to(tmp_path: Path) -> None:
    serving = Serving()
    try:
        lab = Lab(SPEC, LabOptions(name="one", folder=tmp_path))
        serving.attach(lab)
        lines: list[dict[str, Any]] = []
        lab.world.history.listen(lines.append, "request")
        known = {"user-agent": "manager/v0", "authorization": f"Bearer {serving.admin_token}"}
        asked = [
            ("GET", (), known),
            ("GET", (("watch", "true"),), known),
            ("POST", (), known),
            ("GET", (), {}),
        ]
        for method, query, headers in asked:
            serving._handle(
                Request(method=method, path=NAMESPACES, query=query, headers=headers, body=b"{", client="127.0.0.1:9")
            )
    finally:
        serving.close()
    names = ("client", "connection", "user", "method", "verb", "path", "status")
    connection, admin = "127.0.0.1:9", "system:admin"
    assert [tuple(line[name] for name in names) for line in lines] == [
        ("manager/v0", connection, admin, "GET", "list", NAMESPACES, 200),
        ("manager/v0", connection, admin, "WATCH", "watch", NAMESPACES, 200),
        ("manager/v0", connection, admin, "POST", "create", NAMESPACES, 400),
        ("", connection, "system:anonymous", "GET", "get", NAMESPACES, 403),
    ]
    assert serving.admin_token not in str(lines)
