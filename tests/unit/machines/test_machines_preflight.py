"""What a lab asks of the hypervisor is looked for before anything is made."""

from __future__ import annotations

import pytest

from labsim.errors import LabError
from labsim.machines.libvirt.preflight import Needs, check_needs

BARE = """<domainCapabilities><os supported='yes'><enum name='firmware'/>
<loader supported='yes'><enum name='secure'><value>no</value></enum></loader></os>
<devices><tpm supported='no'/></devices></domainCapabilities>"""
WHOLE = """<domainCapabilities><os supported='yes'><enum name='firmware'><value>efi</value></enum>
<loader supported='yes'><enum name='secure'><value>yes</value><value>no</value></enum></loader></os>
<devices><tpm supported='yes'><enum name='backendModel'><value>passthrough</value><value>emulator</value></enum></tpm>
</devices></domainCapabilities>"""


def test_a_hypervisor_that_has_everything_carries_every_lab() -> None:
    check_needs(Needs(uefi=True, secure_boot=True, tpm=True), WHOLE)
    check_needs(Needs(), BARE)


@pytest.mark.parametrize(
    ("needs", "says", "package"),
    [
        (Needs(uefi=True), "no UEFI firmware", "ovmf"),
        (Needs(secure_boot=True), "no firmware for secure boot", "ovmf"),
        (Needs(tpm=True), "no virtual TPM", "swtpm"),
    ],
)
def test_what_is_missing_is_named_with_its_package(needs: Needs, says: str, package: str) -> None:
    with pytest.raises(LabError, match=says) as caught:
        check_needs(needs, BARE)
    assert package in caught.value.hint
