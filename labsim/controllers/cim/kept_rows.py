"""The database's rows as records of a durability log, and back.

A record holds the fields of a row that have changed since its record before: a host is 40 KB, a poll changes two
numbers. What can be derived from other rows, or from the row itself, is not in it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from labsim.controllers.cim.database import Database, Row
from labsim.controllers.cim.events import Event
from labsim.controllers.cim.inventory import Inventory
from labsim.controllers.cim.rows import ApiVip, Cluster, Host, InfraEnv
from labsim.controllers.cim.validations import as_document

Record = dict[str, Any]
Fields = dict[str, Any]
_TABLES: dict[type, str] = {InfraEnv: "infraEnv", Cluster: "cluster", Host: "host", Event: "event"}
_DERIVED: dict[Any, tuple[str, ...]] = {
    InfraEnv: ("host_ids",),
    Cluster: ("host_keys", "by_status", "hostnames", "reachable"),
    Host: ("validations_document",),
    Event: (),
}
_KEPT = {row: tuple(name for name in row.__slots__ if name not in derived) for row, derived in _DERIVED.items()}


class RowsKeeper:
    """The rows that have changed since their records were last taken. `changed` is told of the first of them."""

    def __init__(self, database: Database, changed: Callable[[], None]) -> None:
        self._database = database
        self._changed = changed
        self._waiting: dict[Row, bool] = {}
        self._kept: dict[Row, Fields] = {}  # what the records say so far
        database.on_change = self._on_change

    def _on_change(self, row: Row, gone: bool) -> None:
        if not self._waiting:
            self._changed()
        self._waiting[row] = gone

    def take(self) -> Iterator[bytes]:
        """The records of the changes since the last time."""
        waiting, self._waiting = self._waiting, {}
        for row, gone in waiting.items():
            if gone:
                self._kept.pop(row, None)
                yield orjson.dumps({"cim": _TABLES[type(row)], "row": _key(row), "gone": True})
            else:
                yield self._record(row)

    def everything(self) -> Iterator[bytes]:
        """The records that make the database as it is."""
        self._waiting = {}
        self._kept.clear()
        database = self._database
        for rows in (database.infra_envs, database.clusters, database.hosts):
            for row in rows.values():
                yield self._record(row)
        for event in database.all_events():
            yield self._record(event)

    def _record(self, row: Row) -> bytes:
        fields = {name: getattr(row, name) for name in _KEPT[type(row)]}
        if isinstance(row, Event):
            return orjson.dumps({"cim": "event", "fields": fields})
        before = self._kept.get(row)
        if before is None:
            changed, self._kept[row] = fields, dict.fromkeys(fields)
        else:
            changed = {
                name: value for name, value in fields.items() if before[name] is not value and before[name] != value
            }
        for name, value in changed.items():  # dictionaries are changed in place
            self._kept[row][name] = dict(value) if type(value) is dict else value
        said = {name: _plain(value) for name, value in changed.items()}
        return orjson.dumps({"cim": _TABLES[type(row)], "row": _key(row), "fields": said})


def restore_rows(database: Database, records: Iterable[Record], life: str) -> None:
    """Give a new database the rows that the records make."""
    tables: dict[str, dict[str, Fields]] = {"infraEnv": {}, "cluster": {}, "host": {}}
    events: list[Event] = []
    for record in records:
        if record["cim"] == "event":
            fields = record["fields"]
            own = [fields.pop(name) for name in ("name", "severity", "message", "time_s")]
            events.append(Event(*own, **fields))
        elif record.get("gone"):
            tables[record["cim"]].pop(record["row"], None)
        else:
            tables[record["cim"]].setdefault(record["row"], {}).update(record["fields"])
    database.restore(
        [_filled(InfraEnv(row["id"], row["namespace"], row["name"], 0), row) for row in tables["infraEnv"].values()],
        [_filled(Cluster(row["id"], row["namespace"], row["name"], 0), row) for row in tables["cluster"].values()],
        [_host(row) for row in tables["host"].values()],
        events,
        life,
    )


def _key(row: Row) -> str:
    if isinstance(row, Host):
        return "/".join(row.key)
    return "" if isinstance(row, Event) else row.id


def _host(fields: Fields) -> Host:
    host = Host(fields["id"], fields["infra_env_id"], fields["agent_namespace"], 0)
    _filled(host, fields)
    if host.validations is not None:
        host.validations_document = as_document(host.validations)
    return host


def _filled(row: Any, fields: Fields) -> Any:
    for name, value in fields.items():
        read = _READ[type(row)].get(name)
        setattr(row, name, value if read is None or value is None else read(value))
    return row


def _plain(value: Any) -> Any:
    """A field's value as JSON can say it."""
    if isinstance(value, Inventory):
        return value.text
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, ApiVip):
        return [value.is_success, value.url, value.error, value.filtered_ignition]
    return value


_READ: dict[type, dict[str, Callable[[Any], Any]]] = {
    InfraEnv: {"kernel_arguments": tuple, "static_network": tuple},
    Cluster: {},
    Host: {
        "inventory": lambda text: Inventory(orjson.loads(text)),
        "inventory_digest": base64.b64decode,
        "connectivity": base64.b64decode,
        "pointer_ignition": base64.b64decode,
        "api_vip": lambda parts: ApiVip(*parts),
        "ntp_sources": lambda sources: tuple(map(tuple, sources)),
        "resolutions": lambda known: {name: tuple(addresses) for name, addresses in known.items()},
        "validations": lambda known: {category: tuple(map(tuple, found)) for category, found in known.items()},
    },
}
