"""Runs the tasks of one machine side by side, without threads and without I/O of its own.

The carrier gives one function, `perform(effect, task_name, done)`, and answers each effect with `done(value)`, or
with `done(exception)` (also spelled `done.error(exception)`), which is thrown into the task: at once, or later from
its own event loop, but always on the thread that runs the scheduler. A carrier may also give `at_once(effect,
task_name)` for effects that take no time: it returns the answer, raises the OSError that is thrown into the task, or
returns LATER for an effect that is to be performed.
Spawn, Join and Cancel never reach the carrier. The order in which tasks run is the order in which they became ready.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from labsim.guest.effects import Cancel, Join, Spawn, Task, TaskCancelled

LATER: Final = object()  # what `at_once` says of an effect that takes time
_NOTHING: tuple[Any, BaseException | None] = (None, None)


class Job:
    """A running task: what Spawn is answered with."""

    __slots__ = ("answer", "ended", "error", "joiners", "name", "ready", "result", "task", "waiting")

    def __init__(self, task: Task[Any], name: str) -> None:
        self.task = task
        self.name = name
        self.waiting: Done | None = None  # the answer that the task waits for
        self.ready = False  # stands in the scheduler's queue
        self.answer = _NOTHING
        self.joiners: list[Done] = []
        self.ended = False
        self.result: Any = None
        self.error: BaseException | None = None


class Done:
    """The way back of one effect. Only the first answer counts; one that comes after a cancel is dropped."""

    __slots__ = ("_job", "_scheduler")

    def __init__(self, scheduler: TaskScheduler, job: Job) -> None:
        self._scheduler = scheduler
        self._job = job

    @property
    def wanted(self) -> bool:
        """Whether the task still waits for this answer; a carrier may drop work that nobody waits for."""
        return self._job.waiting is self

    def __call__(self, value: Any = None) -> None:
        if self._job.waiting is not self:
            return
        if isinstance(value, BaseException):
            self._scheduler._wake(self._job, None, value)
        else:
            self._scheduler._wake(self._job, value, None)

    def error(self, error: BaseException) -> None:
        if self._job.waiting is self:
            self._scheduler._wake(self._job, None, error)


class Perform(Protocol):
    """What a carrier is to a scheduler."""

    def __call__(self, effect: Any, task_name: str, done: Done, /) -> None: ...


class TaskScheduler:
    """The tasks of one machine from its start to its end.

    `on_failure(name, error)` is told of a task that ended with an error which nobody joined; without it such an error
    comes out of the `start` or `done` call that ran the task, because it is a mistake in the program.
    """

    def __init__(
        self,
        perform: Perform,
        on_failure: Callable[[str, BaseException], None] | None = None,
        at_once: Callable[[Any, str], Any] = lambda effect, name: LATER,
    ) -> None:
        self._perform = perform
        self._on_failure = on_failure
        self._at_once = at_once
        self._jobs: dict[Job, None] = {}  # ordered, and cheap to take from
        self._queue: deque[Job] = deque()
        self._running = False
        self._stopped = False
        self._held = False

    @property
    def idle(self) -> bool:
        """Whether every task has ended."""
        return not self._jobs

    @property
    def is_alone(self) -> bool:
        """Whether there is one task only."""
        return len(self._jobs) == 1

    def start(self, task: Task[Any], name: str) -> Job:
        """Begin a task; it runs up to its first effect that is not answered at once."""
        job = self._add(task, name)
        self._drain()
        return job

    def cancel(self, job: Job) -> None:
        """Throw TaskCancelled into a task, where it waits."""
        self._cancel(job)
        self._drain()

    def hold(self) -> None:
        """No task runs until `release`; answers that come meanwhile are kept."""
        self._held = True

    def release(self) -> None:
        self._held = False
        self._drain()

    def stop(self) -> None:
        """The machine goes down: every task is cancelled and closed; what they still yield is not performed."""
        self._stopped = True
        self._queue.clear()
        for job in list(self._jobs):
            job.waiting = None
            try:
                job.task.throw(TaskCancelled())
            except (StopIteration, TaskCancelled):
                pass
            except ValueError:  # it is the task that runs right now, and it asked for this stop
                continue
            else:
                _close(job.task)
            job.ended = True
        self._jobs.clear()

    def _add(self, task: Task[Any], name: str) -> Job:
        job = Job(task, name)
        self._jobs[job] = None
        job.ready = True
        self._queue.append(job)
        return job

    def _wake(self, job: Job, value: Any, error: BaseException | None) -> None:
        job.waiting = None
        job.answer = (value, error)
        if not job.ready:
            job.ready = True
            self._queue.append(job)
        if not self._running:
            self._drain()

    def _cancel(self, job: Job) -> None:
        if job.ended or self._stopped:
            return
        job.waiting = None
        job.answer = (None, TaskCancelled())
        if not job.ready:
            job.ready = True
            self._queue.append(job)

    def _drain(self) -> None:
        """Run what is ready. A nested call returns at once: the outer one goes on with the queue."""
        if self._running or self._stopped or self._held:
            return
        self._running = True
        try:
            while self._queue and not self._stopped:
                job = self._queue.popleft()
                job.ready = False
                self._step(job)
        finally:
            self._running = False

    def _step(self, job: Job) -> None:
        """Run a task up to an effect that it must wait for, or until others are ready as well.

        An error's traceback holds this frame: it must not stay in `error`, or both would wait for the collector.
        """
        value, error = job.answer
        job.answer = _NOTHING
        while True:
            try:
                effect = job.task.send(value) if error is None else job.task.throw(error)
            except StopIteration as stop:
                error = None
                self._end(job, stop.value, None)
                return
            except TaskCancelled as cancelled:
                error = None
                self._end(job, None, cancelled)
                return
            except Exception as failure:
                error = None
                self._end(job, None, failure)
                return
            error = None
            if job.ready:  # it cancelled itself: the effect is not begun
                return
            kind = type(effect)
            if kind is Spawn:
                value = self._add(effect.task, effect.name)
            elif kind is Cancel:
                self._cancel(effect.handle)
                if effect.handle is job:
                    return
                value = None
            elif kind is Join:
                done = job.waiting = Done(self, job)
                self._join(effect.handle, done)
                return
            else:
                try:
                    value = self._at_once(effect, job.name)
                except OSError as refused:
                    value, error = None, refused
                if value is LATER:
                    done = job.waiting = Done(self, job)
                    self._perform(effect, job.name, done)
                    return
            if self._queue:
                job.answer = (value, error)
                error = None
                job.ready = True
                self._queue.append(job)
                return

    def _join(self, other: Job, done: Done) -> None:
        if not other.ended:
            other.joiners.append(done)
        elif other.error is not None:
            done.error(other.error)
        else:
            done(other.result)

    def _end(self, job: Job, result: Any, error: BaseException | None) -> None:
        job.ended, job.result, job.error = True, result, error
        self._jobs.pop(job, None)
        joiners, job.joiners = [done for done in job.joiners if done.wanted], []
        for done in joiners:
            if error is None:
                done(result)
            else:
                done.error(error)
        if error is None or joiners or isinstance(error, TaskCancelled):
            return
        if self._on_failure is None:
            raise error
        self._on_failure(job.name, error)


def _close(task: Task[Any]) -> None:
    try:
        task.close()
    except (RuntimeError, TaskCancelled):  # it yields on its way out; it is dropped where it stands
        return
