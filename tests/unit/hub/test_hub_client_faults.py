"""What a client meets while a fault is on, what every other client meets, and what the history tells of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest

from labsim.clock import EventQueue
from labsim.controllers.runtime.component import Component
from labsim.controllers.runtime.effects import DONE, Controller, Handler, Key, Note, Program, Result, Watch
from labsim.entropy import Entropy
from labsim.errors import LabError, NothingSelected
from labsim.history import History
from labsim.hub.embedded.client_faults import Cut, LostBy, What, Who
from labsim.hub.embedded.clients import REQUEST_TIMEOUT_S, HubClients
from labsim.kube.http import KubeHttp
from labsim.kube.server import ApiServer
from labsim.kube.users import ADMIN
from labsim.kube.watch import WatchStream
from labsim.lab.hub_faults import carry_hub_command
from labsim.model.http import Request, Response
from labsim.model.kinds import CONFIG_MAP
from labsim.world.world import World

MAPS = "/api/v1/namespaces/default/configmaps"
SECRETS = "/api/v1/namespaces/default/secrets"
INITIAL = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
MANAGER = Who(program="manager*")
EVERYBODY = Who(program="*")


class FaultyHub:
    """A hub with its clients: the manager, whom the faults meet, and others."""

    def __init__(self) -> None:
        self.queue = EventQueue(1_767_225_600.0)
        self.server = ApiServer(name="hub", clock=self.queue, entropy=Entropy("1"))
        self.history = History(self.queue.now)
        self.lines: list[dict[str, Any]] = []
        self.history.listen(self.lines.append, "request", "watch", "fault")
        self.clients = HubClients(
            server=self.server,
            scheduler=self.queue,
            entropy=Entropy("1"),
            history=self.history,
            act=lambda actor: actor,
            informers=tuple,
        )
        self.http = KubeHttp(self.server, authenticate=lambda request: ADMIN, seam=self.clients)

    def send(
        self, method: str, url: str, body: Any = None, *, program: str = "manager/v1", connection: str = "10.0.0.1:1"
    ) -> Response | Future[Response]:
        path, _, query = url.partition("?")
        request = Request(
            method=method,
            path=path,
            query=tuple(parse_qsl(query)),
            headers={"user-agent": program, "content-type": "application/merge-patch+json" * (method == "PATCH")},
            body=b"" if body is None else orjson.dumps(body),
            client=connection,
        )
        return self.clients.handle(request, self.http.handle)

    def ask(self, method: str, url: str, body: Any = None, **who: str) -> Response:
        response = self.send(method, url, body, **who)
        assert isinstance(response, Response)
        return response

    def document(self, method: str, url: str, body: Any = None, **who: str) -> Any:
        return orjson.loads(self.ask(method, url, body, **who).body)

    def watch(self, url: str, **who: str) -> WatchStream:
        stream = self.ask("GET", url, **who).stream
        assert isinstance(stream, WatchStream)
        return stream

    def config_map(self, name: str) -> None:
        """Made by somebody whom no fault meets."""
        made = self.ask("POST", MAPS, {"metadata": {"name": name}}, program="kubectl", connection="10.0.0.2:1")
        assert made.status == 201

    def names(self, url: str = MAPS, **who: str) -> list[str]:
        return [item["metadata"]["name"] for item in self.document("GET", url, **who)["items"]]

    def wait(self, seconds: float) -> None:
        until_s = self.queue.now() + seconds
        while self.queue.run_next(until_s):
            pass
        self.queue.advance_to(until_s)


@pytest.fixture
def hub() -> Iterator[FaultyHub]:
    made = FaultyHub()
    yield made
    for stream in list(made.clients._open):
        stream.close()


def told(stream: WatchStream) -> list[tuple[str, str]]:
    """The events of a stream so far: type, and name (of a bookmark, its annotation)."""
    found = []
    for line in (stream.read() or b"").splitlines():
        event = orjson.loads(line)
        metadata = event["object"].get("metadata", {})
        name = "end of initial events" if metadata.get("annotations") else metadata.get("name", "")
        found.append((event["type"], name))
    return found


# -- delay and reorder -------------------------------------------------------------------------------------------------


def test_a_delayed_watch_is_told_later_and_nobody_else_is(hub: FaultyHub) -> None:
    late, other = hub.watch(MAPS + "?watch=true"), hub.watch(MAPS + "?watch=true", program="kubectl")
    hub.clients.add_fault(What.DELAY, MANAGER, seconds=30.0)
    hub.config_map("a")
    assert (told(late), told(other)) == ([], [("ADDED", "a")])
    hub.wait(29)
    assert told(late) == []
    hub.wait(1)
    assert told(late) == [("ADDED", "a")]


def test_a_watch_that_begins_while_the_delay_is_on_is_late_too(hub: FaultyHub) -> None:
    hub.config_map("a")
    hub.clients.add_fault(What.DELAY, MANAGER, seconds=5.0)
    late = hub.watch(MAPS + "?watch=true")
    assert told(late) == []
    hub.wait(5)
    assert told(late) == [("ADDED", "a")]


def test_a_fault_of_one_kind_leaves_the_watches_of_others_alone(hub: FaultyHub) -> None:
    hub.clients.add_fault(What.DELAY, Who(program="manager*", kind="secrets"), seconds=5.0)
    maps, secrets = hub.watch(MAPS + "?watch=true"), hub.watch(SECRETS + "?watch=true")
    hub.config_map("a")
    hub.document("POST", SECRETS, {"metadata": {"name": "s"}}, program="kubectl")
    assert (told(maps), told(secrets)) == ([("ADDED", "a")], [])


def test_reordered_watches_overtake_each_other_and_none_itself(hub: FaultyHub) -> None:
    hub.clients.add_fault(What.REORDER, MANAGER, seconds=10.0)
    streams = {
        "maps": hub.watch(MAPS + "?watch=true", connection="10.0.0.1:1"),
        "secrets": hub.watch(SECRETS + "?watch=true", connection="10.0.0.1:2"),
    }
    for number in range(10):
        hub.config_map(f"m{number}")
        hub.document("POST", SECRETS, {"metadata": {"name": f"s{number}"}}, program="kubectl")
        hub.wait(1)
    came: list[str] = []
    for stream in streams.values():
        assert stream.held > 0
    for _ in range(300):
        hub.wait(0.1)
        came += [name for stream in streams.values() for _, name in told(stream)]
    for first_letter in "ms":
        own = [name for name in came if name[0] == first_letter]
        assert own == [f"{first_letter}{number}" for number in range(10)]
    assert any(came.index(f"s{number}") < came.index(f"m{number}") for number in range(10))


def test_the_event_of_a_write_may_come_before_its_answer(hub: FaultyHub) -> None:
    stream = hub.watch(MAPS + "?watch=true", connection="10.0.0.1:2")
    hub.clients.add_fault(What.REORDER, Who(connection="10.0.0.1:1"), seconds=10.0)
    answer = hub.send("POST", MAPS, {"metadata": {"name": "mine"}})
    assert isinstance(answer, Future)
    assert told(stream) == [("ADDED", "mine")]
    assert not answer.done()
    hub.wait(10)
    assert answer.result(0).status == 201


# -- freeze ------------------------------------------------------------------------------------------------------------


def test_a_frozen_watch_falls_silent_and_goes_on_without_a_loss(hub: FaultyHub) -> None:
    stream = hub.watch(MAPS + "?watch=true")
    hub.config_map("a")
    fault = hub.clients.add_fault(What.FREEZE, MANAGER)
    hub.config_map("b")
    stream.keep_alive()
    hub.wait(1000)
    assert told(stream) == [("ADDED", "a")]
    hub.config_map("c")
    hub.clients.clear_faults([fault.number])
    assert told(stream) == [("ADDED", "b"), ("ADDED", "c")]


def test_reads_of_a_frozen_cache_are_stale_and_others_are_not(hub: FaultyHub) -> None:
    hub.config_map("a")
    frozen = hub.clients.add_fault(What.FREEZE, MANAGER)
    hub.config_map("b")
    hub.ask("PATCH", MAPS + "/a", {"data": {"x": "1"}}, program="kubectl")
    stale = hub.document("GET", MAPS + "?resourceVersion=0")
    assert stale["metadata"]["resourceVersion"] == str(frozen.revision)
    assert [(item["metadata"]["name"], item.get("data")) for item in stale["items"]] == [("a", None)]
    assert "data" not in hub.document("GET", MAPS + "/a?resourceVersion=0")
    assert hub.ask("GET", MAPS + "/b?resourceVersion=0").status == 404
    assert hub.names() == ["a", "b"]  # without a resourceVersion: what is there now
    assert hub.document("GET", MAPS + "/a")["data"] == {"x": "1"}
    assert hub.names(MAPS + "?resourceVersion=0", program="kubectl") == ["a", "b"]
    newer = hub.document("GET", f"{MAPS}?resourceVersion={frozen.revision + 1}")
    assert (newer["code"], newer["reason"]) == (504, "Timeout")
    assert "Too large resource version" in newer["message"]


def test_a_list_and_watch_of_a_frozen_cache_agree_and_lose_nothing_when_it_thaws(hub: FaultyHub) -> None:
    hub.config_map("a")
    hub.config_map("gone")
    hub.clients.add_fault(What.FREEZE, MANAGER)
    hub.config_map("b")
    hub.ask("DELETE", MAPS + "/gone", program="kubectl")
    listed = hub.document("GET", MAPS + "?resourceVersion=0")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a", "gone"]
    stream = hub.watch(f"{MAPS}?watch=true&resourceVersion={listed['metadata']['resourceVersion']}")
    hub.config_map("c")
    assert told(stream) == []
    hub.clients.clear_faults([])
    assert told(stream) == [("ADDED", "b"), ("DELETED", "gone"), ("ADDED", "c")]


def test_a_streaming_list_of_the_present_state_waits_for_its_bookmark(hub: FaultyHub) -> None:
    hub.config_map("a")
    hub.clients.add_fault(What.FREEZE, MANAGER)
    hub.config_map("b")
    present = hub.watch(f"{MAPS}?watch=true{INITIAL}")
    as_old_as_it_is = hub.watch(f"{MAPS}?watch=true&resourceVersion=0{INITIAL}", connection="10.0.0.1:2")
    assert told(present) == [("ADDED", "a")]
    assert told(as_old_as_it_is) == [("ADDED", "a"), ("BOOKMARK", "end of initial events")]
    hub.clients.clear_faults([])
    assert told(present) == [("ADDED", "b"), ("BOOKMARK", "end of initial events")]
    assert told(as_old_as_it_is) == [("ADDED", "b")]


def test_a_watch_whose_time_is_over_while_it_is_frozen_goes_on_where_it_was(hub: FaultyHub) -> None:
    hub.config_map("a")
    stream = hub.watch(f"{MAPS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=300")
    told(stream)
    seen = hub.server.revision
    hub.clients.add_fault(What.FREEZE, MANAGER)
    hub.config_map("b")
    stream.expire()
    assert stream.read() is None  # no bookmark: it would lead past what was held back
    again = hub.watch(f"{MAPS}?watch=true&resourceVersion={seen}")
    assert told(again) == []
    hub.clients.clear_faults([])
    assert told(again) == [("ADDED", "b")]


def test_a_cache_may_stop_at_a_revision_of_the_past(hub: FaultyHub) -> None:
    hub.config_map("a")
    past = hub.server.revision
    hub.config_map("b")
    hub.clients.add_fault(What.FREEZE, MANAGER, revision=past)
    assert hub.names(MAPS + "?resourceVersion=0") == ["a"]
    assert told(hub.watch(MAPS + "?watch=true&labelSelector=none")) == []


def test_a_freeze_is_over_when_the_log_has_forgotten_its_revision(
    hub: FaultyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.config_map("a")
    stream = hub.watch(MAPS + "?watch=true")
    hub.clients.add_fault(What.FREEZE, MANAGER)
    monkeypatch.setattr(hub.server.store, "_log_max", (3, 10**9))
    for number in range(5):
        hub.config_map(f"m{number}")
    assert len(hub.names(MAPS + "?resourceVersion=0")) == 6
    assert hub.clients.faults() == []
    assert len(told(stream)) == 6


# -- cut ---------------------------------------------------------------------------------------------------------------


def test_a_cut_watch_ends_and_nobody_elses_does(hub: FaultyHub) -> None:
    mine, other = hub.watch(MAPS + "?watch=true"), hub.watch(MAPS + "?watch=true", program="kubectl")
    assert hub.clients.cut(MANAGER, Cut.END) == 1
    assert (mine.read(), other.read()) == (None, b"")


def test_a_reset_watch_loses_what_was_not_sent_yet(hub: FaultyHub) -> None:
    stream = hub.watch(MAPS + "?watch=true")
    hub.config_map("a")
    hub.clients.cut(MANAGER, Cut.RESET)
    with pytest.raises(ConnectionResetError):
        stream.read()


def test_who_was_cut_as_expired_cannot_go_on_but_can_begin_anew(hub: FaultyHub) -> None:
    stream = hub.watch(MAPS + "?watch=true")
    hub.config_map("a")
    hub.clients.cut(MANAGER, Cut.EXPIRED)
    assert [line for line in told(stream) if line[0] == "ERROR"] == []
    going_on = f"{MAPS}?watch=true&resourceVersion={hub.server.revision}"
    for _ in range(2):
        refused = hub.watch(going_on).read()
        assert refused is not None
        event = orjson.loads(refused)
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
    assert hub.names() == ["a"]
    assert told(hub.watch(going_on)) == []
    hub.clients.cut(MANAGER, Cut.EXPIRED)
    assert told(hub.watch(MAPS + "?watch=true")) == [("ADDED", "a")]
    assert told(hub.watch(going_on)) == []


# -- lost answers and lost writes --------------------------------------------------------------------------------------


def test_a_write_whose_answer_is_lost_is_carried_out_and_the_next_one_is_answered(hub: FaultyHub) -> None:
    hub.clients.add_fault(What.LOSE_ANSWER, MANAGER, left=1, how=LostBy.RESET)
    with pytest.raises(ConnectionResetError):
        hub.send("POST", MAPS, {"metadata": {"name": "a"}})
    assert hub.names() == ["a"]
    assert hub.ask("POST", MAPS, {"metadata": {"name": "a"}}).status == 409
    assert hub.clients.faults() == []


def test_a_lost_answer_may_be_a_504_after_the_time_of_a_request(hub: FaultyHub) -> None:
    hub.clients.add_fault(What.LOSE_ANSWER, MANAGER, left=1, how=LostBy.TIMEOUT)
    answer = hub.send("POST", MAPS, {"metadata": {"name": "a"}})
    assert isinstance(answer, Future)
    hub.wait(REQUEST_TIMEOUT_S - 1)
    assert not answer.done()
    hub.wait(1)
    status = orjson.loads(answer.result(0).body)
    assert (answer.result(0).status, status["reason"], status["code"]) == (504, "Timeout", 504)
    assert hub.names() == ["a"]


def test_reads_refusals_and_writes_that_change_nothing_use_up_no_fault(hub: FaultyHub) -> None:
    hub.config_map("a")
    hub.clients.add_fault(What.LOSE_ANSWER, MANAGER, left=1, how=LostBy.RESET)
    hub.ask("GET", MAPS)
    assert hub.ask("POST", MAPS, {"metadata": {"name": "a"}}).status == 409
    assert hub.ask("PATCH", MAPS + "/a", {}).status == 200
    assert hub.ask("POST", MAPS + "?dryRun=All", {"metadata": {"name": "b"}}).status == 201
    assert [fault.left for fault in hub.clients.faults()] == [1]


def test_a_lost_write_is_answered_and_never_was(hub: FaultyHub) -> None:
    hub.config_map("a")
    stream = hub.watch(MAPS + "?watch=true", program="kubectl")
    told(stream)
    before = hub.document("GET", MAPS + "/a")
    hub.clients.add_fault(What.LOSE_WRITE, MANAGER, left=3)
    changed = hub.document("PATCH", MAPS + "/a", {"data": {"x": "1"}})
    assert changed["data"] == {"x": "1"}
    assert int(changed["metadata"]["resourceVersion"]) == hub.server.revision + 1
    made = hub.ask("POST", MAPS, {"metadata": {"name": "b"}})
    assert made.status == 201
    assert orjson.loads(made.body)["metadata"]["uid"]
    assert hub.document("DELETE", MAPS + "/a")["status"] == "Success"
    assert hub.document("GET", MAPS + "/a") == before
    assert hub.names() == ["a"]
    assert told(stream) == []
    assert hub.clients.faults() == []
    stale = hub.document("PUT", MAPS + "/a", {**changed, "kind": "ConfigMap", "apiVersion": "v1"})
    assert (stale["code"], stale["reason"]) == (409, "Conflict")


# -- what is told ------------------------------------------------------------------------------------------------------


def test_the_history_tells_each_request_with_who_what_and_how_it_ended(hub: FaultyHub) -> None:
    hub.ask("POST", MAPS, {"metadata": {"name": "a"}})
    hub.ask("GET", MAPS + "?resourceVersion=0")
    stream = hub.watch(MAPS + "?watch=true")
    hub.config_map("b")
    stream.close()
    [made, listed, watched, _, closed] = hub.lines
    who = {"client": "manager/v1", "connection": "10.0.0.1:1", "user": ADMIN.name}
    assert {name: made[name] for name in who} == {name: closed[name] for name in who} == who
    assert (made["verb"], made["path"], made["status"]) == ("create", MAPS, 201)
    assert (listed["verb"], listed["query"]) == ("list", {"resourceVersion": "0"})
    assert (watched["method"], watched["verb"], watched["watch"]) == ("WATCH", "watch", 1)
    assert (closed["type"], closed["watch"], closed["ended"], closed["events"]) == ("watch", 1, "by the client", 2)


def test_the_history_tells_faults_and_whom_they_met(hub: FaultyHub) -> None:
    hub.clients.add_fault(What.LOSE_ANSWER, MANAGER, left=1, how=LostBy.RESET)
    with pytest.raises(ConnectionResetError):
        hub.send("POST", MAPS, {"metadata": {"name": "a"}})
    stream = hub.watch(MAPS + "?watch=true")
    frozen = hub.clients.add_fault(What.FREEZE, MANAGER)
    hub.config_map("b")
    hub.ask("GET", MAPS + "?resourceVersion=0")
    hub.clients.cut(EVERYBODY, Cut.RESET)
    stream.close()
    hub.clients.clear_faults([])
    by_type = [(line["type"], line.get("what"), line.get("fault")) for line in hub.lines]
    assert by_type == [
        ("fault", "on", "lose-answer"),
        ("request", None, 1),
        ("request", None, None),
        ("fault", "on", "freeze"),
        ("request", None, None),
        ("request", None, None),
        ("fault", "cut", None),
        ("watch", None, None),
        ("fault", "off", "freeze"),
    ]
    stale, cut, closed = hub.lines[5:8]
    assert stale["revision"] == frozen.revision
    assert cut["watches"] == [1]
    assert (closed["ended"], closed["held"]) == ("cut by a reset", 1)


def test_clients_are_counted_by_program_and_user(hub: FaultyHub) -> None:
    hub.config_map("a")
    hub.ask("GET", MAPS)
    hub.ask("GET", MAPS + "/none")
    stream = hub.watch(MAPS + "?watch=true")
    rows = {row["program"]: row for row in hub.clients.rows()}
    assert (rows["kubectl"]["writes"], rows["kubectl"]["watching"]) == (1, "")
    mine = rows["manager/v1"]
    assert (mine["reads"], mine["refused"], mine["watches"], mine["watching"]) == (1, 1, 1, "configmaps")
    stream.close()
    assert {row["program"]: row for row in hub.clients.rows()}["manager/v1"]["watching"] == ""


def test_who_is_remembered_is_bounded(hub: FaultyHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labsim.hub.embedded.clients.CLIENTS_MAX", 3)
    for number in range(9):
        hub.ask("GET", MAPS, program=f"p{number}")
    assert [row["program"] for row in hub.clients.rows()] == ["p6", "p7", "p8"]


def test_a_fault_that_is_not_on_cannot_be_cleared(hub: FaultyHub) -> None:
    hub.clients.add_fault(What.DELAY, MANAGER, seconds=1.0)
    with pytest.raises(NothingSelected, match="no fault 7") as refused:
        hub.clients.clear_faults([7])
    assert refused.value.hint == "faults that are on: 1"


def test_a_simulated_components_watch_is_frozen_like_anybodys() -> None:
    world = World(seed="1")
    heard: list[str] = []

    class Watching(Component):
        name = "watching"

        def controllers(self) -> Sequence[Controller]:
            return [Controller(name="maps", watches=(Watch(CONFIG_MAP),), reconcile=self._reconcile)]

        def _reconcile(self, key: Key) -> Program[Result]:
            heard.append(key.name)
            yield Note("seen")
            return DONE

        def services(self) -> Mapping[str, Handler]:
            return {}

        def start_keys(self) -> Sequence[tuple[str, Key]]:
            return []

    world.add(Watching())
    clients = HubClients(
        server=world.hub,
        scheduler=world.queue,
        entropy=world.entropy,
        history=world.history,
        act=world.act,
        informers=world.engine.hub_informers,
    )
    clients.add_fault(What.FREEZE, Who(program="labsim/watching", kind="configmaps"))
    world.hub.create({"metadata": {"name": "a", "namespace": "default"}}, CONFIG_MAP)
    world.run_for(60)
    assert heard == []
    clients.clear_faults([])
    world.run_for(1)
    assert heard == ["a"]


def test_a_hub_that_is_a_cluster_has_no_faults_here() -> None:
    with pytest.raises(LabError, match="a cluster of its own") as refused:
        carry_hub_command(None, {"fault": "list"})
    assert refused.value.hint == "faults need the embedded hub: leave --hub out"
