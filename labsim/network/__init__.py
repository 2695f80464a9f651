"""Names, ports and reachability of a lab: the model that the simulation uses, and that real sockets are made from."""
