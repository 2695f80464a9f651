"""A cluster of its own for each lab, made and deleted with the kind command; labsim runs on it as on any plain one."""
