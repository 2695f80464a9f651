"""Steps that look at the host's surroundings: time, names, the ignition endpoint, tang servers.

Source: host-lifecycle 2.6 and 3.5.
"""

from __future__ import annotations

import base64
import functools
import json
from typing import Any

from labsim.guest.effects import ConnectionFailed, Http, HttpAnswer, Ran, Resolve, Run, Task
from labsim.guest.service import ServiceAccess
from labsim.guest.steps.context import StepContext, StepResult, json_argument, json_output

IGNITION_ACCEPT = "application/vnd.coreos.ignition+json; version=3.2.0"
IGNITION_FILES_KEPT = (
    "/etc/kubernetes/manifests/coredns.yaml",
    "/etc/kubernetes/manifests/keepalived.yaml",
    "/etc/kubernetes/kubeconfig",
)
CHRONY_STATES = {
    "*": "synced",
    "+": "combined",
    "-": "not_combined",
    "x": "error",
    "~": "variable",
    "?": "unreachable",
}


def synchronize_time(_context: StepContext, _access: ServiceAccess, arguments: list[str]) -> Task[StepResult]:
    """Add the NTP sources that the service names, and tell what chrony thinks of all it has. A system without
    chrony has none."""
    wanted = str(json_argument(arguments).get("ntp_source") or "") if arguments else ""
    try:
        for source in filter(None, wanted.split(",")):
            yield Run(("chronyc", "add", "server", source, "iburst"))
        ran: Ran = yield Run(("chronyc", "-n", "-c", "sources"))
    except FileNotFoundError:
        return StepResult(json_output({"ntp_sources": []}))
    if ran.exit_code != 0:
        return StepResult(exit_code=-1, error=ran.stderr.decode(errors="replace")[:500])
    rows = [line.split(",") for line in ran.stdout.decode(errors="replace").splitlines()]
    sources = [
        {"source_name": row[2], "source_state": CHRONY_STATES.get(row[1], "unreachable")}
        for row in rows
        if len(row) > 2 and row[0] in ("^", "=")
    ]
    return StepResult(json_output({"ntp_sources": sources}))


def resolve_domains(_context: StepContext, _access: ServiceAccess, arguments: list[str]) -> Task[StepResult]:
    """Look up each name the service asks for; a name without addresses is told with empty lists."""
    resolutions: list[dict[str, Any]] = []
    for domain in json_argument(arguments)["domains"]:
        name = str(domain["domain_name"])
        addresses: tuple[str, ...] = yield Resolve(name)
        resolutions.append(
            {
                "domain_name": name,
                "ipv4_addresses": [address for address in addresses if ":" not in address],
                "ipv6_addresses": [address for address in addresses if ":" in address],
                "cnames": [],
            }
        )
    return StepResult(json_output({"resolutions": resolutions}))


def check_ignition_endpoint(_context: StepContext, _access: ServiceAccess, arguments: list[str]) -> Task[StepResult]:
    """Download the Ignition that the installed host will want; exit code 0 also where that fails."""
    wanted = json_argument(arguments)
    url = str(wanted["url"])
    headers = {"Accept": IGNITION_ACCEPT}
    for header in wanted.get("request_headers") or []:
        headers[str(header["key"])] = str(header["value"])
    if wanted.get("ignition_endpoint_token"):
        headers["Authorization"] = f"Bearer {wanted['ignition_endpoint_token']}"
    ca_pem = base64.b64decode(wanted.get("ca_certificate") or "").decode(errors="replace")
    error = ""
    try:
        answer: HttpAnswer = yield Http("GET", url, headers, ca_pem=ca_pem)
    except ConnectionFailed as failure:
        error = f"ignition file download failed: request failed: {failure}"
    else:
        if answer.status != 200:
            error = f"ignition file download failed: bad status code: {answer.status}. server response: " + (
                answer.body[:200].decode(errors="replace")
            )
        else:
            try:
                filtered = filter_ignition(answer.body)
            except ValueError as failure:
                error = f"error unmarshaling downloaded ignition: {failure}"
    if error:
        return StepResult(json_output({"url": url, "download_error": error}))
    return StepResult(json_output({"is_success": True, "url": url, "ignition": filtered}))


@functools.lru_cache(maxsize=8)
def filter_ignition(data: bytes) -> str:
    """The Ignition with nothing in it but LUKS and the three files that the service's validations look at."""
    config = json.loads(data)
    if not isinstance(config, dict):
        raise ValueError("not a JSON object")
    storage = config.get("storage") or {}
    kept: dict[str, Any] = {
        "files": [file for file in storage.get("files") or [] if file.get("path") in IGNITION_FILES_KEPT]
    }
    if storage.get("luks"):
        kept["luks"] = storage["luks"]
    version = (config.get("ignition") or {}).get("version", "3.2.0")
    return json_output({"ignition": {"version": version}, "storage": kept})


def check_tang(_context: StepContext, _access: ServiceAccess, arguments: list[str]) -> Task[StepResult]:
    """Ask each tang server for its advertisement."""
    servers = json.loads(json_argument(arguments)["tang_servers"])
    responses: list[dict[str, Any]] = []
    for server in servers:
        url = str(server.get("url") or server.get("Url") or "")
        try:
            answer: HttpAnswer = yield Http("GET", f"{url.rstrip('/')}/adv")
        except ConnectionFailed as error:
            return StepResult(json_output({"is_success": False}), exit_code=-1, error=str(error))
        if answer.status != 200:
            return StepResult(json_output({"is_success": False}), exit_code=-1, error=f"{url}: {answer.status}")
        advertisement = json.loads(answer.body)
        responses.append(
            {
                "tang_url": url,
                "payload": advertisement.get("payload", ""),
                "signatures": advertisement.get("signatures")
                or [{"protected": advertisement.get("protected", ""), "signature": advertisement.get("signature", "")}],
            }
        )
    return StepResult(json_output({"is_success": True, "tang_server_response": responses}))
