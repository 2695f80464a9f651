"""`labsim hub serve --bare`: the API alone. Imports as little as it can, for whoever starts it for each test."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from labsim.errors import ExitCode
from labsim.hub.embedded.bare import BareHub
from labsim.hub.embedded.identity import new_token
from labsim.hub.embedded.token_file import read_token_file
from labsim.kube.users import User
from labsim.model.objects import Object


def serve_bare(*, port: int, kubeconfig: Path, token_file: Path | None, with_kinds: bool) -> int:
    """Serve the API alone until Ctrl-C; the kubeconfig is for the first user of the file, else a new administrator.

    `with_kinds`: the definitions of the Agent platform are installed, as in a lab's hub.
    """
    tokens = {new_token(): User("admin", "admin", ("system:masters",))}
    if token_file is not None:
        tokens = read_token_file(token_file)
    token, user = next(iter(tokens.items()))
    crds: tuple[Object, ...] = ()
    if with_kinds:
        from labsim.kube.crds import hub_crds

        crds = hub_crds()
    hub = BareHub(tokens, port=port, crds=crds)
    try:
        hub.write_kubeconfig(kubeconfig, token, user.name)
        sys.stderr.write(f"API at {hub.url} for {', '.join(known.name for known in tokens.values())}; ")
        sys.stderr.write("no component runs; end it with Ctrl-C\n")
        sys.stdout.write(f"{kubeconfig}\n")
        sys.stdout.flush()
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        hub.close()
        kubeconfig.unlink(missing_ok=True)
    return int(ExitCode.PASSED)
