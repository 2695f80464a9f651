"""Machines that live in the process: state machines on the world's clock that run the same guest program as a VM."""
