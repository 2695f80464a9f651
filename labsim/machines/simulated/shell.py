"""What a simulated machine answers to whoever has logged in: commands of our image, over the machine's own files."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterator
from typing import Protocol

from labsim.guest.ignition import authorized_keys_path
from labsim.machines.simulated.file_tree import normal
from labsim.machines.simulated.machine import SimulatedMachine

USER = "core"
HOME = f"/home/{USER}"
_OPERATORS = frozenset("|&<>();")


class ShellMachine(Protocol):
    """What the shell asks of its machine."""

    @property
    def hostname(self) -> str: ...
    @property
    def journal(self) -> list[str]: ...
    def file(self, path: str) -> bytes | None: ...
    def names_in(self, path: str) -> tuple[str, ...] | None: ...
    def store(self, path: str, data: bytes | None) -> None: ...
    def restart(self, reason: str) -> None: ...
    def stop(self) -> None: ...


class InMachine:
    """A simulated machine, as the shell asks it."""

    def __init__(self, machine: SimulatedMachine) -> None:
        self._machine = machine

    @property
    def hostname(self) -> str:
        data = self.file("/etc/hostname") or self.file("/proc/sys/kernel/hostname") or b""
        return data.decode(errors="replace").strip()

    @property
    def journal(self) -> list[str]:
        """The lines that it has written since it was made (the last 100 to 200 KB)."""
        return self._machine.console.decode(errors="replace").splitlines()

    def file(self, path: str) -> bytes | None:
        return self._machine.files.read(normal(path))

    def names_in(self, path: str) -> tuple[str, ...] | None:
        return self._machine.files.names(normal(path))

    def store(self, path: str, data: bytes | None) -> None:
        """Write a file; None removes it."""
        if data is None:
            self._machine.files.remove(normal(path))
        else:
            self._machine.files.write(normal(path), data)

    def restart(self, reason: str) -> None:
        self._machine.restart(reason)

    def stop(self) -> None:
        self._machine.stop()


@dataclasses.dataclass(slots=True)
class Answer:
    """What a command printed, and how it ended."""

    code: int = 0
    out: bytes = b""
    err: bytes = b""


def authorized_keys(machine: ShellMachine) -> tuple[str, ...]:
    """The keys (type and value) that open the machine; none before its Ignition was applied."""
    text = (machine.file(authorized_keys_path(USER)) or b"").decode()
    return tuple(" ".join(line.split()[:2]) for line in text.splitlines() if line.strip())


class SimulatedShell:
    """One login. `run` is a line: commands joined by `;` and `&&`, with `>` for output."""

    def __init__(self, machine: ShellMachine) -> None:
        self._machine = machine

    def reads_input(self, line: str) -> bool:
        """Whether the line wants what is sent to it."""
        return any(words == ["cat"] for words, _, _ in _parsed(line))

    def run(self, line: str, stdin: bytes = b"") -> Answer:
        whole = Answer()
        try:
            for words, target, only_after_success in _parsed(line):
                if only_after_success and whole.code:
                    continue
                answer = self._command(words, stdin)
                if target:
                    self._machine.store(_path(target), answer.out)
                    answer.out = b""
                whole = Answer(answer.code, whole.out + answer.out, whole.err + answer.err)
        except ValueError as error:
            return Answer(2, whole.out, whole.err + f"sh: {error}\n".encode())
        return whole

    def _command(self, words: list[str], stdin: bytes) -> Answer:
        if words[0] == "sudo":
            words = words[1:] or ["true"]
        command = _COMMANDS.get(words[0])
        if command is None:
            known = ", ".join(sorted(_COMMANDS))
            return Answer(
                127, err=f"sh: {words[0]}: not found; this machine is simulated and knows: {known}\n".encode()
            )
        return command(self._machine, words[1:], stdin)


def _parsed(line: str) -> Iterator[tuple[list[str], str, bool]]:
    """(words, file that the output goes to, whether only after success) of each command. Raises ValueError."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    target, after_success = "", False
    pieces = [*lexer, ";"]
    for index, piece in enumerate(pieces):
        if piece in (";", "&&"):
            if words:
                yield words, target, after_success
            words, target, after_success = [], "", piece == "&&"
        elif piece == ">":
            target = pieces[index + 1]
            if set(target) <= _OPERATORS:
                raise ValueError("a file is missing after '>'")
        elif set(piece) <= _OPERATORS:
            raise ValueError(f"{piece!r} is not known: this machine is simulated")
        elif not (index and pieces[index - 1] == ">"):
            words.append(piece)


def _path(text: str) -> str:
    return text if text.startswith("/") else f"{HOME}/{text}"


def _cat(machine: ShellMachine, words: list[str], stdin: bytes) -> Answer:
    answer = Answer(out=b"" if words else stdin)
    for word in words:
        data = machine.file(_path(word))
        if data is None:
            answer.code = 1
            answer.err += f"cat: can't open '{word}': No such file or directory\n".encode()
        else:
            answer.out += data
    return answer


def _ls(machine: ShellMachine, words: list[str], _: bytes) -> Answer:
    answer = Answer()
    for word in [word for word in words if not word.startswith("-")] or [HOME]:
        names = machine.names_in(_path(word))
        if names is None and machine.file(_path(word)) is None:
            answer.code = 1
            answer.err += f"ls: {word}: No such file or directory\n".encode()
        else:
            answer.out += "".join(f"{name}\n" for name in names or (word,)).encode()
    return answer


def _mv(machine: ShellMachine, words: list[str], _: bytes) -> Answer:
    data = machine.file(_path(words[0])) if len(words) == 2 else None
    if data is None:
        return Answer(1, err=b"mv: no such file, or not two names\n")
    machine.store(_path(words[1]), data)
    machine.store(_path(words[0]), None)
    return Answer()


def _rm(machine: ShellMachine, words: list[str], _: bytes) -> Answer:
    for word in words:
        if not word.startswith("-"):
            machine.store(_path(word), None)
    return Answer()


def _journalctl(machine: ShellMachine, words: list[str], _: bytes) -> Answer:
    """-u UNIT or -t UNIT, -n LINES; other options change nothing."""
    lines = machine.journal
    for option, value in zip(words, [*words[1:], ""], strict=True):
        if option in ("-u", "-t", "--unit", "--identifier"):
            lines = [line for line in lines if line.startswith(f"{value.removesuffix('.service')}: ")]
    for option, value in zip(words, [*words[1:], ""], strict=True):
        if option in ("-n", "--lines") and value.isdecimal():
            lines = lines[-int(value) :] if int(value) else []
    return Answer(out="".join(f"{line}\n" for line in lines).encode())


def _reboot(machine: ShellMachine, _: list[str], __: bytes) -> Answer:
    machine.restart("by its user")
    return Answer()


def _poweroff(machine: ShellMachine, _: list[str], __: bytes) -> Answer:
    machine.stop()
    return Answer()


def _systemctl(machine: ShellMachine, words: list[str], stdin: bytes) -> Answer:
    known = {"reboot": _reboot, "poweroff": _poweroff, "halt": _poweroff}
    if words[:1] and words[0] in known:
        return known[words[0]](machine, words[1:], stdin)
    return Answer(1, err=b"systemctl: this system has no systemd; reboot and poweroff are known\n")


def _uname(machine: ShellMachine, words: list[str], _: bytes) -> Answer:
    return Answer(out=(f"Linux {machine.hostname} labsim x86_64\n" if words else "Linux\n").encode())


_COMMANDS: dict[str, Callable[[ShellMachine, list[str], bytes], Answer]] = {
    "cat": _cat,
    "echo": lambda machine, words, stdin: Answer(out=f"{' '.join(words)}\n".encode()),
    "false": lambda machine, words, stdin: Answer(1),
    "hostname": lambda machine, words, stdin: Answer(out=f"{machine.hostname}\n".encode()),
    "id": lambda machine, words, stdin: Answer(out=f"uid=0(root) gid=0(root) groups=0(root),({USER})\n".encode()),
    "journalctl": _journalctl,
    "ls": _ls,
    "mv": _mv,
    "poweroff": _poweroff,
    "reboot": _reboot,
    "rm": _rm,
    "systemctl": _systemctl,
    "true": lambda machine, words, stdin: Answer(),
    "uname": _uname,
    "whoami": lambda machine, words, stdin: Answer(out=f"{USER}\n".encode()),
}
