"""CIM's rows come back from their records as they were."""

from __future__ import annotations

from typing import Any

import orjson
from cim_lab import HOST_ID, CimWorld, FakeAgent

from labsim.controllers.cim.component import Cim
from labsim.controllers.cim.database import Database
from labsim.controllers.cim.inventory import Inventory
from labsim.controllers.cim.kept_rows import RowsKeeper, restore_rows
from labsim.controllers.cim.rows import ApiVip
from labsim.entropy import Entropy


def everything(database: Database) -> dict[str, Any]:
    """Every field of every row, and the events."""
    found: dict[str, Any] = {}
    for rows in (database.infra_envs, database.clusters, database.hosts):
        for key, row in rows.items():
            found[f"{type(row).__name__} {key}"] = {name: comparable(getattr(row, name)) for name in row.__slots__}
    found["events"] = [event.document() for event in database.all_events()]
    return found


def comparable(value: Any) -> Any:
    if isinstance(value, Inventory):
        return value.text
    if isinstance(value, ApiVip):
        return (value.is_success, value.url, value.error, value.filtered_ignition)
    if isinstance(value, dict):  # indexes keep empty places
        return {key: entry for key, entry in value.items() if entry != set()}
    return value


def restored(records: list[bytes]) -> Database:
    database = Cim(Entropy(1)).database
    restore_rows(database, map(orjson.loads, records), "start/2")
    return database


def test_rows_come_back_from_their_changes_and_from_a_fresh_account() -> None:
    world = CimWorld()
    changes: list[bytes] = []
    told: list[int] = []
    keeper = RowsKeeper(world.cim.database, lambda: told.append(len(changes)))
    world.infra_env()
    agent = FakeAgent(world)
    agent.register()
    agent.work()
    world.run(10)
    changes += keeper.take()
    world.cluster()
    world.patch_agent({"clusterDeploymentName": {"namespace": "clusters-example", "name": "example"}, "approved": True})
    world.run(2)
    agent.work()
    agent.register()
    for _ in range(3):
        changes += keeper.take()
        agent.work()
        world.run(60)
    changes += keeper.take()
    assert agent.state() == "installing"
    expected = everything(world.cim.database)
    host = world.cim.database.host_of("agents", HOST_ID)
    assert host is not None
    assert host.validations
    assert everything(restored(changes)) == expected
    assert everything(restored(list(keeper.everything()))) == expected
    assert told
    assert list(keeper.take()) == []


def test_a_poll_is_a_small_record() -> None:
    world = CimWorld()
    keeper = RowsKeeper(world.cim.database, lambda: None)
    world.infra_env()
    agent = FakeAgent(world)
    agent.register()
    agent.work()
    world.run(100)
    list(keeper.take())
    agent.poll()
    (record,) = keeper.take()
    assert len(record) < 400
    assert orjson.loads(record)["fields"].keys() >= {"checked_in_at_s", "polls"}


def test_a_deleted_row_stays_away_and_new_ids_are_new() -> None:
    world = CimWorld()
    keeper = RowsKeeper(world.cim.database, lambda: None)
    database = world.cim.database
    row = database.add_infra_env("agents", "lab", 1.0)
    changes = list(keeper.take())
    database.drop_infra_env(row)
    changes += keeper.take()
    again = restored(changes)
    assert again.infra_envs == {}
    assert again.add_infra_env("agents", "lab", 2.0).id != row.id
