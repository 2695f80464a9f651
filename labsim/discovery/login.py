"""The SSH server of a virtual machine, and the commands that people type after they have logged in.

It is this machine's own dropbear; without one the image has no login. It starts when the Ignition has given the user
`core` a key, in the background, and says its host key on the console first, as RHCOS does, so
that whoever owns the machine knows which key to expect. There is no sudo to set up and no journald: `sudo` runs what it
is given, and `journalctl` reads what the machine has written to its console.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from labsim.guest.ignition import authorized_keys_path
from labsim.guest.init import JOURNAL_PATH, NETWORK_READY_PATH

DROPBEAR_PACKAGE = "dropbear-bin"
USERS = "root:x:0:0:root:/root:/bin/sh\ncore:x:0:0:core:/home/core:/bin/sh\n"
START_PATH = "/etc/labsim/sshd.sh"
# What a person expects in a shell, beside what the image itself needs; a busybox may lack some.
APPLETS = (
    *("chmod", "cp", "date", "dd", "df", "du", "env", "find", "free", "grep", "halt", "head", "hostname"),
    *("id", "ifconfig", "kill", "less", "ln", "lsmod", "md5sum", "mv", "netstat", "nslookup", "pidof"),
    *("poweroff", "reboot", "rm", "rmdir", "route", "sed", "sha256sum", "sleep", "sort", "stat", "sync"),
    *("tail", "tar", "tee", "test", "top", "touch", "true", "umount", "uname", "uptime", "vi", "wc"),
    *("wget", "which", "whoami", "xargs"),
)

_START = f"""#!/bin/sh
keys={authorized_keys_path("core")}
until [ -s $keys ] && [ -e {NETWORK_READY_PATH} ]; do sleep 1; done
mkdir -p /dev/pts /etc/dropbear
mount -t devpts devpts /dev/pts
cat $keys >/home/core/.ssh/authorized_keys
chmod 600 /home/core/.ssh/authorized_keys
key=/etc/dropbear/dropbear_ed25519_host_key
fingerprint=$(dropbearkey -t ed25519 -f $key 2>/dev/null | sed -n 's/^Fingerprint: //p')
echo "SSH host key: $fingerprint (ED25519)" >/dev/console
exec dropbear -F -E -s -r $key 2>>{JOURNAL_PATH}
"""
_SUDO = """#!/bin/sh
while case "$1" in -*) true ;; *) false ;; esac; do shift; done
exec "$@"
"""
_SYSTEMCTL = """#!/bin/sh
case "$1" in
  reboot) exec reboot ;;
  poweroff | halt) exec poweroff ;;
  *) echo "systemctl: this system has no systemd; reboot and poweroff are known" >&2; exit 1 ;;
esac
"""
_JOURNALCTL = f"""#!/bin/sh
# journalctl [-u UNIT | -t UNIT] [-f] [-k] [-n LINES]; other options are taken and change nothing.
unit=. lines=+1 follow=
while [ $# -gt 0 ]; do
  case "$1" in
    -u | -t | --unit | --identifier) unit="^${{2%.service}}: "; shift ;;
    -u* | -t*) unit=${{1#-?}}; unit="^${{unit%.service}}: " ;;
    --unit=* | --identifier=*) unit=${{1#*=}}; unit="^${{unit%.service}}: " ;;
    -n | --lines) lines=$2; shift ;;
    -f | --follow) follow=-f ;;
    -k | --dmesg) exec dmesg ;;
  esac
  shift
done
if [ -n "$follow" ]; then exec tail -n "$lines" -f {JOURNAL_PATH} | grep "$unit"; fi
grep "$unit" {JOURNAL_PATH} | tail -n "$lines"
"""


def server_programs() -> tuple[Path, ...]:
    """dropbear and the program that makes its keys; none where they are not installed."""
    path = f"{Path('/usr/sbin')}:{Path('/usr/bin')}:{Path('/sbin')}"
    found = [shutil.which(name, path=path) for name in ("dropbear", "dropbearkey")]
    return () if None in found else tuple(Path(name) for name in found if name)


def login_files() -> dict[str, bytes]:
    """Scripts by their path, all of them executable."""
    return {
        START_PATH: _START.encode(),
        "/bin/sudo": _SUDO.encode(),
        "/bin/systemctl": _SYSTEMCTL.encode(),
        "/bin/journalctl": _JOURNALCTL.encode(),
    }
