"""A lab: hub, networks, machines and a ledger, made and removed as one."""
