"""`labsim iso cache`: what is kept for the next lab, and how it is made smaller."""

from __future__ import annotations

import datetime
import sys

from labsim.cli.output import Format, print_rows, talk
from labsim.discovery.cache_contents import cached_files, prune
from labsim.errors import ExitCode, UsageError
from labsim.lab.folder import cache_limit_bytes, cache_root
from labsim.model.quantities import format_size, parse_size_bytes

COLUMNS = ("file", "kind", "size", "used")


def show_cache(form: Format) -> int:
    """A row for each file, last used first."""
    files = cached_files(cache_root())
    rows = [
        {
            "file": file.path.name,
            "kind": file.kind,
            "size": format_size(file.size_bytes),
            "sizeBytes": file.size_bytes,
            "used": datetime.datetime.fromtimestamp(int(file.used_s), tz=datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "url": ", ".join(file.urls),
        }
        for file in files
    ]
    if not rows and form in (Format.TABLE, Format.WIDE):
        talk(f"nothing is in {cache_root()}")
        return int(ExitCode.PASSED)
    print_rows(rows, COLUMNS, form, ("url",))
    if form in (Format.TABLE, Format.WIDE):
        size = format_size(sum(file.size_bytes for file in files))
        talk(f"{size} of {format_size(cache_limit_bytes())} in {cache_root()}")
    return int(ExitCode.PASSED)


def prune_cache_to(limit: str) -> int:
    """Remove down to a limit; the names of what was removed are the result."""
    try:
        limit_bytes = parse_size_bytes(limit) if limit else cache_limit_bytes()
    except ValueError as error:
        raise UsageError(f"--limit: {error}") from error
    removed = prune(cache_root(), limit_bytes)
    for file in removed:
        sys.stdout.write(f"{file.path.name}\n")
    talk(f"{format_size(sum(file.size_bytes for file in removed))} removed from {cache_root()}")
    return int(ExitCode.PASSED)
