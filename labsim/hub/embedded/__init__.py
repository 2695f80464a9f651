"""The hub that lives in this process: its sockets, its own authority and tokens, and the kubeconfig that it writes."""
