"""The simulated components: programs without I/O, one package per upstream component, and their runtime."""
