"""Virtual machines under libvirt: the QEMU of the user's own session by default, which needs no root."""
