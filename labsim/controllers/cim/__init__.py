"""Central Infrastructure Management: assisted-service, its image service and its controllers, simulated.

The service's own database and REST API live beside the Kubernetes controllers, as upstream: `database` is this
component's PostgreSQL, touched directly; Kubernetes only through effects. Facts: host-lifecycle and cim-resources.
"""
