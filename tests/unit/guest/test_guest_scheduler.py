"""The small scheduler: order, joins, cancels, late answers, stop."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from labsim.guest.effects import Cancel, Join, Log, Reboot, Run, Sleep, Spawn, Task, TaskCancelled
from labsim.guest.scheduler import LATER, Done, TaskScheduler


class Carrier:
    def __init__(self) -> None:
        self.open: list[tuple[Any, str, Done]] = []
        self.logged: list[str] = []
        self.failures: list[tuple[str, BaseException]] = []
        self.scheduler = TaskScheduler(self.perform, lambda name, error: self.failures.append((name, error)))

    def perform(self, effect: Any, task_name: str, done: Done) -> None:
        if isinstance(effect, Log):
            self.logged.append(effect.text)
            done(None)
        elif isinstance(effect, Reboot):
            self.scheduler.stop()
        else:
            self.open.append((effect, task_name, done))


def sleeper(text: str) -> Task[str]:
    value = yield Sleep(1)
    yield Log(f"{text} {value}")
    return text


def test_spawned_tasks_run_beside_their_parent_and_are_joined() -> None:
    def parent() -> Task[None]:
        child = yield Spawn(sleeper("child"), "child")
        yield Log("parent goes on")
        result = yield Join(child)
        yield Log(f"joined {result}")
        yield Log(f"again {(yield Join(child))}")

    carrier = Carrier()
    carrier.scheduler.start(parent(), "parent")
    assert carrier.logged == ["parent goes on"]
    (_, name, done) = carrier.open.pop()
    assert name == "child"
    done("slept")
    assert carrier.logged == ["parent goes on", "child slept", "joined child", "again child"]
    assert carrier.scheduler.idle


def test_the_first_answer_counts_and_a_late_one_is_dropped() -> None:
    carrier = Carrier()
    job = carrier.scheduler.start(sleeper("a"), "a")
    done = carrier.open.pop()[2]
    wanted_before = done.wanted
    carrier.scheduler.cancel(job)
    assert (wanted_before, done.wanted) == (True, False)
    done("late")
    assert carrier.logged == []
    assert isinstance(job.error, TaskCancelled)
    assert carrier.failures == []


def test_a_cancelled_task_may_clean_up() -> None:
    def careful() -> Task[None]:
        try:
            yield Sleep(10)
        finally:
            yield Log("cleaned")

    def parent() -> Task[None]:
        child = yield Spawn(careful(), "careful")
        yield Sleep(1)
        yield Cancel(child)
        with pytest.raises(TaskCancelled):
            yield Join(child)
        yield Log("gone")

    carrier = Carrier()
    carrier.scheduler.start(parent(), "parent")
    next(done for effect, _, done in carrier.open if effect.seconds == 1)()
    assert carrier.logged == ["cleaned", "gone"]


def test_errors_are_thrown_into_the_task_and_to_those_who_join_it() -> None:
    def failing() -> Task[None]:
        yield Sleep(1)

    def parent() -> Task[None]:
        child = yield Spawn(failing(), "child")
        try:
            yield Join(child)
        except OSError as error:
            yield Log(f"saw {error}")

    carrier = Carrier()
    carrier.scheduler.start(parent(), "parent")
    carrier.open[0][2].error(OSError("disk"))
    assert carrier.logged == ["saw disk"]
    assert carrier.failures == []


def test_a_failure_that_nobody_joins_is_reported_or_raised() -> None:
    def broken() -> Task[None]:
        yield Log("x")
        raise KeyError("bug")

    carrier = Carrier()
    carrier.scheduler.start(broken(), "broken")
    assert [name for name, _ in carrier.failures] == ["broken"]
    bare = TaskScheduler(lambda _effect, _name, done: done(None))
    with pytest.raises(KeyError):
        bare.start(broken(), "broken")


def test_a_reboot_ends_every_task_and_nothing_is_performed_afterwards() -> None:
    def stubborn() -> Task[None]:
        while True:
            try:
                yield Sleep(5)
            except TaskCancelled:
                yield Log("must not be performed")

    def rebooter() -> Task[None]:
        yield Spawn(stubborn(), "stubborn")
        yield Sleep(1)
        yield Reboot()
        yield Log("never")

    carrier = Carrier()
    carrier.scheduler.start(rebooter(), "rebooter")
    sleeping = next(done for effect, _, done in carrier.open if effect.seconds == 1)
    sleeping()
    assert carrier.scheduler.idle
    assert carrier.logged == []
    for _, _, done in carrier.open:
        done()
    assert carrier.logged == []


def test_many_immediate_answers_do_not_deepen_the_stack() -> None:
    def chatty() -> Task[int]:
        for _ in range(20_000):
            yield Log("x")
        return 7

    carrier = Carrier()
    assert carrier.scheduler.start(chatty(), "chatty").result == 7


class QuickCarrier(Carrier):
    """Answers lines of the journal at once, and has no programs."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = TaskScheduler(self.perform, at_once=self.at_once)

    def at_once(self, effect: Any, task_name: str) -> Any:
        if isinstance(effect, Log):
            self.logged.append(f"{task_name}: {effect.text}")
            return len(self.logged)
        if isinstance(effect, Run):
            raise FileNotFoundError(effect.argv[0])
        return LATER


def test_what_takes_no_time_is_answered_in_place_and_its_errors_are_thrown() -> None:
    def task() -> Task[str]:
        count = yield Log("a")
        try:
            yield Run(("chronyc",))
        except FileNotFoundError as error:
            yield Log(f"no {error} after {count}")
        slept: str = yield Sleep(1)
        return slept

    carrier = QuickCarrier()
    job = carrier.scheduler.start(task(), "t")
    assert carrier.logged == ["t: a", "t: no chronyc after 1"]
    carrier.open.pop()[2]("slept")
    assert job.result == "slept"


def test_tasks_that_are_ready_take_turns_also_where_nobody_waits() -> None:
    def child() -> Task[None]:
        yield Log("1")
        yield Log("2")

    def parent() -> Task[None]:
        yield Spawn(child(), "child")
        yield Log("1")
        yield Log("2")

    carrier = QuickCarrier()
    carrier.scheduler.start(parent(), "parent")
    assert carrier.logged == ["child: 1", "parent: 1", "child: 2", "parent: 2"]


def test_a_task_that_cancels_itself_goes_no_further() -> None:
    jobs: list[Any] = []

    def task() -> Task[None]:
        yield Sleep(1)
        try:
            yield Cancel(jobs[0])
        finally:
            carrier.logged.append("cancelled")
        carrier.logged.append("went on")

    carrier = QuickCarrier()
    jobs.append(carrier.scheduler.start(task(), "t"))
    carrier.open.pop()[2](None)
    assert carrier.logged == ["cancelled"]
    assert carrier.scheduler.idle


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another one"])
def test_an_error_that_was_thrown_and_caught_leaves_nothing_to_the_collector(beside: bool) -> None:
    """A thousand machines whose errors waited for the collector, with all that their steps had read, took 300 MiB."""

    class Missing(FileNotFoundError): ...

    met: list[weakref.ref[Missing]] = []

    class MissingCarrier(QuickCarrier):
        def at_once(self, effect: Any, task_name: str) -> Any:
            if isinstance(effect, Run):
                error = Missing(effect.argv[0])
                met.append(weakref.ref(error))
                try:
                    raise error
                finally:
                    del error
            return super().at_once(effect, task_name)

    def task() -> Task[None]:
        try:
            yield Run(("chronyc",))
        except FileNotFoundError:
            return

    def parent() -> Task[None]:
        if beside:
            yield Spawn(task(), "other")
        yield from task()

    gc.disable()
    try:
        MissingCarrier().scheduler.start(parent(), "t")
        assert [error() for error in met] == [None] * (1 + beside)
    finally:
        gc.enable()
