"""`labsim iso download`: the discovery ISO of an InfraEnv on any hub, as its user has it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from labsim.cli.output import talk
from labsim.discovery.download import Progress, Trust, shown_url
from labsim.edge_time import monotonic_s
from labsim.errors import ExitCode, UsageError, system_errors
from labsim.hub.plain.connection import ClusterAccess, ClusterConnection
from labsim.hub.plain.image_of import image_authorities, image_url
from labsim.lab.folder import cache_root
from labsim.lab.images import downloaded, told_by
from labsim.lab.names import HUB_DOMAIN
from labsim.lab.plain import answering, default_kubeconfig
from labsim.model.quantities import format_size

REDRAW_EVERY_S = 0.2


def download_iso_file(source: str, target: Path, *, kubeconfig: Path | None, context: str, ca: Path | None) -> int:
    """Write the ISO of an InfraEnv, or of a URL, to `target`; the file appears when it is whole."""
    extra = ""
    if ca is not None:
        with system_errors(f"reading {ca}"):
            extra = ca.read_text()
    if "://" in source:
        url, trust = source, Trust(ca_pem=extra)
    else:
        url, trust = _of_infra_env(
            source, ClusterAccess(kubeconfig=kubeconfig or default_kubeconfig(), context=context)
        )
        trust = dataclasses.replace(trust, ca_pem=f"{trust.ca_pem}\n{extra}".strip())
    progress = _bar() if sys.stderr.isatty() else told_by(talk, url)
    with system_errors(f"writing {target}"), tempfile.TemporaryDirectory(prefix="download-", dir=_cache()) as folder:
        image = downloaded(url, Path(folder), trust, progress)
        partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
        try:
            shutil.copyfile(image, partial)  # not a link: what is done to it must not be done to the cache
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    talk(f"{format_size(target.stat().st_size)} from {shown_url(url)}")
    sys.stdout.write(f"{target}\n")
    return int(ExitCode.PASSED)


def _cache() -> Path:
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    return root


def _of_infra_env(source: str, access: ClusterAccess) -> tuple[str, Trust]:
    """The URL of an InfraEnv's image, and how to reach it: names of a lab are served where its hub is."""
    namespace, slash, name = source.partition("/")
    if not (namespace and slash and name):
        raise UsageError(f"{source!r} is neither an InfraEnv nor a URL", hint="NAMESPACE/NAME, or https://...")
    connection = ClusterConnection(access)
    try:
        with answering(connection):
            url = image_url(connection, namespace, name)
            authorities = image_authorities(connection)
    finally:
        connection.close()
    place = urlsplit(url)
    resolve_to = None
    if (place.hostname or "").endswith(f".{HUB_DOMAIN}"):
        resolve_to = (urlsplit(connection.url).hostname or "", place.port or 443)
    return url, Trust(ca_pem=authorities, resolve_to=resolve_to)


def _bar() -> Progress:
    """A line that is drawn again in place, for a terminal."""
    drawn_s = 0.0

    def progress(done: int, total: int | None) -> None:
        nonlocal drawn_s
        if done != total and monotonic_s() - drawn_s < REDRAW_EVERY_S:
            return
        drawn_s = monotonic_s()
        share = f" of {format_size(total)}, {100 * done // max(total, 1)}%" if total else ""
        sys.stderr.write(f"\r\x1b[2K{format_size(done)}{share}" + ("\n" if done == total else ""))
        sys.stderr.flush()

    return progress
