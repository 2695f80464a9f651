#!/bin/sh
# `make lab`: the main job with the best machines that this host can have; the last line names them.
# Where QEMU and libvirt can be installed, KVM or not, falling back to simulated machines is a failure.
set -u
here=$(dirname "$0")
labsim="${VENV:-.venv}/bin/labsim"
scenario=scenarios/scale-down-and-reuse.yaml

if sh "$here/install-packages.sh" --check >/dev/null 2>&1; then
  echo "running $scenario with virtual machines under libvirt" >&2
  if "$labsim" run "$scenario" --machines libvirt --profile small --speed "${LABSIM_SPEED:-15}"; then
    echo "machines used: libvirt"
    exit 0
  fi
  echo "machines used: libvirt (the scenario did not pass)"
  exit 1
fi
echo "no hypervisor can be had here ($(sh "$here/install-packages.sh" --why 2>/dev/null || echo 'QEMU or libvirt is missing')): simulated machines instead" >&2
"$labsim" run "$scenario" --machines simulated || exit $?
echo "machines used: simulated"
