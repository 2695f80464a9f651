"""A place that somebody else has is not published there in silence: machines would take them for the lab."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from labsim.errors import LabError
from labsim.lab.lab import Lab, LabOptions
from labsim.lab.serving import LOOPBACK, Serving
from labsim.model.scenario import load_scenario
from labsim.network.fabric import Endpoint

SPEC = load_scenario(Path(__file__).parents[3] / "scenarios" / "label-selector.yaml").spec.lab


def test_a_published_port_that_somebody_else_has_ends_the_lab(tmp_path: Path) -> None:
    serving = Serving()
    lab = Lab(SPEC, LabOptions(name="one", folder=tmp_path))
    serving.attach(lab)
    shown = serving.authority.serving([LOOPBACK])
    with socket.socket() as theirs:
        theirs.bind((LOOPBACK, 0))
        theirs.listen()
        port = theirs.getsockname()[1]
        lab.world.fabric.publish(
            Endpoint(
                host=LOOPBACK,
                port=port,
                service="ignition",
                owner="clusters/one",
                serve="none",
                certificate_pem=shown.cert_pem,
                key_pem=shown.key_pem,
            )
        )
        with pytest.raises(LabError, match=f"port {port} on {LOOPBACK} is in use"):
            lab.run_until(lambda: False, lab.now() + 1)
    serving.close()
    lab.remove()
