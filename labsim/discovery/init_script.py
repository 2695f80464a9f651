"""The first program in the VM: a shell script that prepares the system and becomes Python.

Shell, because busybox is there in milliseconds and Python takes a second or two under software emulation: drivers,
DHCP and Python's start overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labsim.discovery.kernel import NETWORK_DRIVERS

APPLETS = ("sh", "mount", "insmod", "ip", "udhcpc", "cat", "ls", "ps", "dmesg", "ping", "mkdir")

_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /run/labsim /tmp /etc
ip link set lo up
load() {{ for driver in "$@"; do insmod /lib/labsim-drivers/$driver.ko 2>/dev/null; done; }}
load {network_drivers}
(
  for nic in /sys/class/net/*; do
    nic=${{nic##*/}}
    [ "$nic" = lo ] && continue
    ip link set "$nic" up
    udhcpc -i "$nic" -s /etc/udhcpc.sh -f -t 10 -T 1 -A 3 >/dev/null 2>&1 &
  done
) &
(
  load {other_drivers}
  [ -d /sys/firmware/efi ] && mount -t efivarfs efivarfs /sys/firmware/efi/efivars
  : >/run/labsim/drivers
) &
{login}{library_path}export PATH=/bin:/usr/bin HOME=/root LANG=C.UTF-8
exec {python} -I -S -B -c 'import sys; sys.path.insert(0, "/usr/lib/labsim")
from labsim.guest import init
init.start()'
"""

_UDHCPC = """#!/bin/sh
case "$1" in
  deconfig) ip addr flush dev "$interface"; ip link set "$interface" up ;;
  bound|renew)
    ip addr flush dev "$interface"
    ip addr add "$ip/${mask:-24}" dev "$interface"
    for gateway in $router; do ip route add default via "$gateway" dev "$interface" && break; done
    : >/etc/resolv.conf.new
    [ -n "$domain" ] && echo "search $domain" >>/etc/resolv.conf.new
    for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf.new; done
    [ -f /etc/resolv.conf ] || cat /etc/resolv.conf.new >/etc/resolv.conf
    : >/run/labsim/network
    ;;
esac
"""


def init_script(python: Path, drivers: Sequence[str], library_path: str = "", login: str = "") -> bytes:
    """/init for these drivers (in their order of loading, dependencies included) and this interpreter; `login` is the
    script that lets people in, "" where there is none."""
    last_network = max((drivers.index(name) for name in NETWORK_DRIVERS if name in drivers), default=-1)
    return _INIT.format(
        network_drivers=" ".join(drivers[: last_network + 1]),
        other_drivers=" ".join(drivers[last_network + 1 :]),
        python=python,
        login=f"PATH=/bin:/usr/bin:/usr/sbin sh {login} &\n" if login else "",
        library_path=f"export LD_LIBRARY_PATH={library_path}\n" if library_path else "",
    ).encode()


def udhcpc_script() -> bytes:
    """What udhcpc calls when it has an address: address, route, name servers."""
    return _UDHCPC.encode()
