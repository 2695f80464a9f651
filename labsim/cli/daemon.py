"""The process of a lab that `labsim up` leaves open. Not for people: `labsim up --foreground` is."""

from __future__ import annotations

import sys
from pathlib import Path

from labsim.errors import ExitCode, LabsimError
from labsim.lab.daemon import serve_lab
from labsim.lab.folder import LabFolder
from labsim.lab.interruption import interrupt_once
from labsim.model.scenario import load_scenario


def main(arguments: list[str]) -> int:
    """FOLDER SCENARIO MACHINES PROFILE SEED SPEED PORT."""
    folder, scenario, machines, profile, seed, speed, port = arguments
    interrupt_once()
    try:
        return serve_lab(
            LabFolder(Path(folder)),
            load_scenario(Path(scenario)),
            machines=machines,
            profile=profile,
            seed=seed,
            speed=float(speed),
            port=int(port),
            talk=lambda text: print(text, file=sys.stderr, flush=True),
        )
    except LabsimError as error:
        print(error.message, file=sys.stderr)
        print(error.hint, file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
