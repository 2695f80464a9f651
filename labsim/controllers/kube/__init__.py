"""The two controllers of kube-controller-manager that this flow needs: garbage collection and namespaces."""
