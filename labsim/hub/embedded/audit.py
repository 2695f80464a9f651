"""The headers by which a request is found again: Audit-Id, and the flow and level that kube-apiserver has put it in."""

from __future__ import annotations

import dataclasses

from labsim.edge_time import os_random
from labsim.model.http import Request, Response


class AuditHeaders:
    """Names every answer of one server. All requests are of one flow here: nothing is throttled."""

    def __init__(self) -> None:
        self._flow = {
            "x-kubernetes-pf-flowschema-uid": _identifier(),
            "x-kubernetes-pf-prioritylevel-uid": _identifier(),
        }

    def on(self, request: Request, response: Response) -> Response:
        """The response with its headers; a client's own Audit-Id is given back."""
        headers = {"audit-id": request.headers.get("audit-id") or _identifier(), **response.headers}
        if response.status != 401:  # who is unknown has no flow
            headers.update(self._flow)
        return dataclasses.replace(response, headers=headers)


def _identifier() -> str:
    text = os_random(16).hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"
