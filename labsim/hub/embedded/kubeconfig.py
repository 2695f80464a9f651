"""The kubeconfig that the hub writes for kubectl and other clients: readable by its owner only, never half written."""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
from pathlib import Path

import yaml

from labsim.errors import LabError


def kubeconfig_text(server: str, *, ca_pem: str, token: str, name: str = "labsim", user: str = "admin") -> str:
    """A kubeconfig with one cluster, one user with a bearer token, and the context that joins them."""
    context = f"{name}-{user}"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(ca_pem.encode()).decode(),
                },
            }
        ],
        "users": [{"name": context, "user": {"token": token}}],
        "contexts": [{"name": context, "context": {"cluster": name, "user": context}}],
        "current-context": context,
        "preferences": {},
    }
    return yaml.safe_dump(document, sort_keys=False)


def write_private(path: Path, text: str) -> None:
    """Write a file with mode 0600, whole or not at all. Raises LabError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp makes the file with mode 0600, in the same folder so that the rename is one step.
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as problem:
        raise LabError(
            f"cannot write {path}: {problem.strerror or problem}", hint="check the folder's permissions and free space"
        ) from problem


def write_kubeconfig(
    path: Path, server: str, *, ca_pem: str, token: str, name: str = "labsim", user: str = "admin"
) -> None:
    """Write a kubeconfig for `server` to `path`."""
    write_private(path, kubeconfig_text(server, ca_pem=ca_pem, token=token, name=name, user=user))
