#!/bin/sh
# Installs what labsim needs on a Debian, Ubuntu or Fedora machine: Python's venv, QEMU and libvirt, what an ISO is made
# of, kubectl. Says one line per thing. Needs root, or sudo that asks no question; asks nothing itself. Starts no service:
# labsim uses the user's own libvirt session.
#
# Exit: 0 a hypervisor can be used now; 3 it cannot (labsim then uses simulated machines).
set -u

say() { printf '%s\n' "labsim setup: $*"; }
have() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

log=$(mktemp) || exit 3
trap 'rm -f "$log"' EXIT
trap 'exit 130' INT TERM

if [ "$(id -u)" -eq 0 ]; then
  as_root=""
elif have sudo && sudo -n true 2>/dev/null; then
  as_root="sudo -n"
else
  as_root="no"
fi

if have apt-get; then family=apt; elif have dnf; then family=dnf; else family=none; fi

installed() { # package
  case $family in
    apt) dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q '^install ok installed' ;;
    dnf) rpm -q "$1" >/dev/null 2>&1 ;;
    *) return 1 ;;
  esac
}

listed=""
refresh() { # the package lists, once, and only when something is missing
  [ -z "$listed" ] || return 0
  listed=yes
  if [ "$family" = apt ]; then
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update >"$log" 2>&1 ||
      say "the package lists could not be refreshed: $(reason)"
  fi
}

reason() { # the last line of the log that says something went wrong
  found=$(grep -E '^(E|Error|Err)[: ]' "$log" | tail -n 1)
  [ -n "$found" ] || found=$(tail -n 1 "$log")
  printf '%s' "$found"
}

install() { # packages
  case $family in
    apt)
      $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
        install --no-install-recommends "$@" >"$log" 2>&1 ;;
    dnf) $as_root dnf -q -y --setopt=install_weak_deps=False install "$@" >"$log" 2>&1 ;;
  esac
}

need() { # what it is for: packages...
  purpose=$1
  shift
  missing=""
  for package in "$@"; do
    installed "$package" || missing="$missing $package"
  done
  if [ -z "$missing" ]; then
    say "$purpose: there already"
    return 0
  fi
  if [ "$family" = none ]; then
    say "$purpose: NOT installed ($*): neither apt nor dnf is here"
    return 1
  fi
  if [ "$as_root" = no ]; then
    say "$purpose: NOT installed (missing:$missing): needs root, or sudo without a password"
    return 1
  fi
  refresh
  # shellcheck disable=SC2086 # a list of words
  if install $missing; then
    say "$purpose: installed$missing"
  else
    say "$purpose: NOT installed (missing:$missing): $(reason)"
    return 1
  fi
}

known() { # the first of the packages that this distribution has
  refresh_if_possible
  for package in "$@"; do
    if installed "$package"; then printf '%s' "$package"; return; fi
  done
  for package in "$@"; do
    case $family in
      apt) apt-cache show "$package" >/dev/null 2>&1 && { printf '%s' "$package"; return; } ;;
      dnf) dnf -q list "$package" >/dev/null 2>&1 && { printf '%s' "$package"; return; } ;;
    esac
  done
  printf '%s' "$1"
}

refresh_if_possible() { # a fresh container has no lists at all, so nothing would be known
  [ "$family" = apt ] && [ "$as_root" != no ] && [ -z "$(apt-cache show qemu-system-x86 2>/dev/null)" ] && refresh
  return 0
}

ID=unknown
# shellcheck source=/dev/null
[ ! -r /etc/os-release ] || . /etc/os-release
case $family in
  dnf)
    need "Python" python3 python3-pip
    need "QEMU" "$(known qemu-system-x86-core qemu-kvm-core)"
    need "libvirt" libvirt-daemon-driver-qemu libvirt-daemon-log libvirt-client
    need "networks of libvirt machines" libvirt-daemon-driver-network dnsmasq
    need "what compiles libvirt's Python binding" libvirt-devel pkgconf-pkg-config gcc python3-devel
    need "what a discovery ISO is made of" syslinux syslinux-nonlinux xorriso busybox
    need "a kernel for the discovery ISO" kernel-core kernel-modules-core
    need "UEFI firmware and TPM for machines" edk2-ovmf swtpm swtpm-tools
    need "openssl" openssl
    need "the SSH server of virtual machines" dropbear
    have kubectl || need "kubectl" "$(known kubernetes-client kubernetes1.34-client kubernetes1.33-client)"
    ;;
  *)
    need "Python's venv" python3-venv
    need "QEMU" qemu-system-x86
    need "libvirt" libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients
    need "networks of libvirt machines" dnsmasq-base iptables
    need "what compiles libvirt's Python binding" libvirt-dev pkg-config gcc python3-dev
    need "what a discovery ISO is made of" isolinux syslinux-common xorriso "$(known busybox-static busybox)" cpio
    # As files only: nothing here changes what this machine itself boots. UEFI and a TPM are for machines that ask for them.
    need "UEFI firmware and TPM for machines" ovmf swtpm swtpm-tools
    need "what a discovery ISO starts with under UEFI" shim-signed grub-efi-amd64-signed mtools
    if [ "${ID:-}" = ubuntu ]; then kernel=linux-image-virtual; else kernel=linux-image-cloud-amd64; fi
    need "a kernel for the discovery ISO" "$(known "$kernel" linux-image-amd64)"
    need "openssl" openssl
    need "the SSH server of virtual machines" dropbear-bin
    have kubectl || need "kubectl" "$(known kubernetes-client kubectl)"
    ;;
esac
have kubectl && say "kubectl: $(command -v kubectl)"

# Ubuntu keeps its kernels unreadable for users, and a discovery ISO is made by a user. No secret is in a kernel package.
for kernel in /boot/vmlinuz-*; do
  [ -e "$kernel" ] || continue
  if [ ! -r "$kernel" ] && [ "$as_root" != no ]; then
    $as_root chmod a+r "$kernel" && say "made $kernel readable"
  fi
done

if have qemu-system-x86_64 || [ -x /usr/libexec/qemu-kvm ]; then qemu=yes; else qemu=no; fi
if have libvirtd || have virtqemud; then libvirt=yes; else libvirt=no; fi
if [ "$qemu$libvirt" != yesyes ]; then
  say "no hypervisor can be used here (QEMU: $qemu, libvirt: $libvirt); simulated machines work without one"
  exit 3
fi
if grep -qwE 'vmx|svm' /proc/cpuinfo 2>/dev/null && [ -e /dev/kvm ]; then
  [ -w /dev/kvm ] || say "for hardware virtualisation: add yourself to the group kvm and log in again"
  say "a hypervisor can be used"
else
  say "a hypervisor can be used, under software emulation: this processor offers no virtualisation"
fi
