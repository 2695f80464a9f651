"""Any plain Kubernetes cluster as a hub: our definitions on it, our components beside it, through list and watch."""
