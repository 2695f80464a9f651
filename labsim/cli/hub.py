"""`labsim hub serve`: the embedded hub with its simulated components and no machines, in this process."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from labsim.errors import ExitCode, UsageError
from labsim.lab.daemon import FOREVER_S
from labsim.lab.sizes import sizes_of
from labsim.lab.virtual_machines import open_paced_lab
from labsim.model.scenario import CimRequirement, LabSpec


def serve_hub(*, port: int, speed: float, seed: str, kubeconfig: Path) -> int:
    """Serve until Ctrl-C; the kubeconfig's path is printed when the hub answers."""
    if speed <= 0:
        raise UsageError("--speed must be positive", hint="for example --speed 1")
    spec = LabSpec.model_construct(
        base_domain="krnl.es", cim=CimRequirement(), infra_envs=[], machines=[], namespace="labsim"
    )
    with tempfile.TemporaryDirectory(prefix="labsim-") as folder:
        opened = open_paced_lab(
            spec, name="hub", folder=Path(folder), sizes=sizes_of("default"), seed=seed, speed=speed, port=port
        )
        try:
            opened.lab.make()
            if opened.serving is not None:
                opened.serving.write_kubeconfig(kubeconfig)
                sys.stderr.write(f"hub at {opened.serving.url}; end it with Ctrl-C\n")
            sys.stdout.write(f"{kubeconfig}\n")
            sys.stdout.flush()
            world = opened.lab.world
            world.run_until(lambda: False, world.now() + FOREVER_S)
        except KeyboardInterrupt:
            pass
        finally:
            opened.close()
            kubeconfig.unlink(missing_ok=True)
    return int(ExitCode.PASSED)
