"""Cluster API's core controllers: Cluster, MachineDeployment, MachineSet, Machine and MachineHealthCheck."""
