"""Every object of a world at the end of a run, with secrets removed, as JSON lines."""

from __future__ import annotations

import orjson

from labsim.controllers.runtime.hub import HubServer
from labsim.history import without_secret_data
from labsim.world.world import World


def resource_lines(world: World) -> bytes:
    """A line per object of the hub and of every hosted cluster: store, kind, namespace, name, object."""
    lines = []
    stores: list[tuple[str, HubServer]] = [("hub", world.hub_server), *sorted(world.hosted_servers().items())]
    for store, server in stores:
        for obj in server.everything():
            metadata = obj["metadata"]
            entry = {
                "store": store,
                "kind": obj["kind"],
                "namespace": metadata.get("namespace", ""),
                "name": metadata["name"],
                "object": without_secret_data(obj),
            }
            lines.append(world.history.redacted(orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)) + b"\n")
    return b"".join(lines)
