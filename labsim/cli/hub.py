"""`labsim hub serve`: the embedded hub with its simulated components and no machines, or its API alone (`--bare`)."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from labsim.cli.output import talk
from labsim.errors import ExitCode, system_errors
from labsim.hub.embedded.bare import BareHub
from labsim.hub.embedded.identity import new_token
from labsim.hub.embedded.token_file import read_token_file
from labsim.hub.role import Role
from labsim.kube.crds import hub_crds
from labsim.kube.users import User
from labsim.lab.daemon import FOREVER_S
from labsim.lab.external import tell_of_external
from labsim.lab.hub_choice import OUR_OWN, HubChoice
from labsim.lab.lab_request import LabRequest
from labsim.lab.virtual_machines import open_paced_lab
from labsim.model.scenario import CimRequirement, HubSpec, LabSpec


def serve_hub(*, port: int, speed: float, seed: str, kubeconfigs: Mapping[Role, Path], hub: HubChoice = OUR_OWN) -> int:
    """Serve until Ctrl-C; says when the hub answers where the kubeconfigs are, and how to start what is external."""
    spec = LabSpec.model_construct(
        base_domain="krnl.es", cim=CimRequirement(), hub=HubSpec(), infra_envs=[], machines=[], namespace="labsim"
    )
    spec, hub = hub.of(spec)
    with system_errors("making a folder for the hub's files"):
        place = tempfile.TemporaryDirectory(prefix="labsim-")
    with place as folder:
        opened = open_paced_lab(spec, LabRequest(name="hub", folder=Path(folder), seed=seed, speed=speed, port=port))
        written: list[Path] = []
        try:
            with opened:
                opened.lab.make()
                assert opened.serving is not None
                for role, path in kubeconfigs.items():
                    opened.serving.write_kubeconfig(path, role)
                    written.append(path)
                talk(f"hub at {opened.serving.url}; end it with Ctrl-C")
                tell_of_external(opened.lab, kubeconfigs[Role.ADMINISTRATOR].resolve(), talk)
                sys.stdout.writelines(f"{path}\n" for path in written)
                sys.stdout.flush()
                world = opened.lab.world
                world.run_until(lambda: False, world.now() + FOREVER_S)
        except KeyboardInterrupt:
            talk("the hub is closed")
        finally:
            for path in written:
                path.unlink(missing_ok=True)
    return int(ExitCode.PASSED)


def serve_bare(*, port: int, kubeconfig: Path, token_file: Path | None, with_kinds: bool) -> int:
    """Serve the API alone until Ctrl-C; the kubeconfig is for the first user of the file, else a new administrator.

    `with_kinds`: the definitions of the Agent platform are installed, as in a lab's hub.
    """
    tokens = {new_token(): User("admin", "admin", ("system:masters",))}
    if token_file is not None:
        tokens = read_token_file(token_file)
    token, user = next(iter(tokens.items()))
    hub = BareHub(tokens, port=port, crds=hub_crds() if with_kinds else ())
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
