"""Tokens and their users from a file, as kube-apiserver's --token-auth-file has it: token,user,uid,"group,group"."""

from __future__ import annotations

import csv
from pathlib import Path

from labsim.errors import InvalidFile, UsageError
from labsim.kube.users import User

_COLUMNS = 'token,user,uid[,"group1,group2"]'


def read_token_file(path: Path) -> dict[str, User]:
    """The user of each token, in the file's order. Raises UsageError or InvalidFile, with every wrong line at once."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as problem:
        raise UsageError(
            f"cannot read the token file {path}: {problem.strerror or problem}", hint=f"one user a line: {_COLUMNS}"
        ) from problem
    except UnicodeDecodeError as problem:
        raise UsageError(f"the token file {path} is not UTF-8", hint=f"one user a line: {_COLUMNS}") from problem
    tokens: dict[str, User] = {}
    problems: list[tuple[str, str, str]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        values = [value.strip() for value in next(csv.reader([line], skipinitialspace=True))]
        wrong = _problem(values, tokens)
        if wrong:
            problems.append((f"line {number}", wrong, f"a line reads {_COLUMNS}"))
            continue
        token, name, uid, *groups = values
        listed = ",".join(groups[:1])
        tokens[token] = User(name, uid, tuple(group.strip() for group in listed.split(",") if group.strip()))
    if problems:
        raise InvalidFile(str(path), problems)
    if not tokens:
        raise UsageError(f"the token file {path} names nobody", hint=f"one user a line: {_COLUMNS}")
    return tokens


def _problem(values: list[str], known: dict[str, User]) -> str:
    """What is wrong with a line; its token is never shown."""
    if len(values) < 3:
        return f"{len(values)} column(s), at least three are needed"
    if len(values) > 4:
        return f"{len(values)} columns: several groups stand in one pair of quotation marks"
    if not values[0] or not values[1]:
        return "token and user must not be empty"
    if values[0] in known:
        return f"the token is that of {known[values[0]].name} already"
    return ""
