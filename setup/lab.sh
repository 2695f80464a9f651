#!/bin/sh
# `make lab`: the main job with the best machines that this host can have; the last line names them.
# Where QEMU and libvirt can be installed, KVM or not, falling back to simulated machines would be a failure.
set -u
here=$(dirname "$0")
venv=${VENV:-.venv}
scenario=scenarios/scale-down-and-reuse.yaml

if said=$(sh "$here/install-packages.sh" 2>&1); then
  if ! "$venv/bin/python" -c 'import libvirt' 2>/dev/null; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check -e '.[libvirt]' || {
      echo "libvirt is here, and its Python binding could not be installed"
      exit 1
    }
  fi
  "$venv/bin/labsim" run "$scenario" --machines libvirt --profile small --speed "${LABSIM_SPEED:-15}"
  code=$?
  echo "machines used: libvirt"
  exit $code
fi
echo "no hypervisor can be had here ($(printf '%s\n' "$said" | tail -n 1)): simulated machines instead" >&2
"$venv/bin/labsim" run "$scenario" --machines simulated
code=$?
echo "machines used: simulated"
exit $code
