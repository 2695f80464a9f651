"""`labsim hub serve`: the embedded hub with its simulated components and no machines."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from labsim.cli.output import talk
from labsim.errors import ExitCode, system_errors
from labsim.hub.role import Role
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
