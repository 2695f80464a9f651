"""The Kubernetes API as a library: store, kinds, schemas, writes, patches, watches; no sockets."""
