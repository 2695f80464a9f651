"""The discovery ISOs of a lab's InfraEnvs, as files: from its own image service, or downloaded from a real one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from labsim.discovery.cache_contents import DOWNLOADS, prune
from labsim.discovery.download import Progress, Trust, Version, download, shown_url
from labsim.discovery.iso_cache import IsoCache
from labsim.edge_time import monotonic_s
from labsim.errors import LabError
from labsim.history import masked
from labsim.lab.folder import cache_limit_bytes, cache_root
from labsim.model.kinds import INFRA_ENV
from labsim.model.objects import dig
from labsim.model.quantities import format_size
from labsim.model.scenario import InfraEnvSpec

if TYPE_CHECKING:
    from labsim.lab.lab import Lab
    from labsim.model.http import Response

FOLDER = "iso"
OUTSIDE_WITHIN_REAL_S = 5 * 3600.0  # a download has limits of its own, which come first
TELL_EVERY_S = 10.0


class DiscoveryImages:
    """Looked for when a machine is to be booted from one, so that a changed InfraEnv gives its new image."""

    def __init__(self, lab: Lab, talk: Callable[[str], None]) -> None:
        self._lab = lab
        self._talk = talk
        self._folder = lab.options.folder / FOLDER

    def file_of(self, infra_env: InfraEnvSpec, within_s: float) -> Path:
        """The image of `status.isoDownloadURL`, whole and as it was made. Called on the world's thread.

        A new URL is a new image, and our own image service gives one with every change of the InfraEnv. Others are
        asked each time whether it has changed: without authentication theirs keep their URL.
        """
        url = self._url_of(infra_env, within_s)
        if self._lab.world.fabric.find(url) is not None:
            return self._from_world(url)
        return self._from_outside(url)

    def _url_of(self, infra_env: InfraEnvSpec, within_s: float) -> str:
        lab = self._lab
        namespace = lab.namespace_of(infra_env)

        def url() -> str:
            found = lab.hub.get(INFRA_ENV, namespace, infra_env.name)
            return "" if found is None else str(dig(found, "status", "isoDownloadURL", default=""))

        if not lab.run_until(lambda: bool(url()), lab.now() + within_s):
            found = lab.hub.get(INFRA_ENV, namespace, infra_env.name) or {}
            conditions = orjson.dumps(dig(found, "status", "conditions", default=[])).decode()
            raise LabError(
                f"InfraEnv {namespace}/{infra_env.name} has no discovery ISO after {within_s:.0f} s",
                hint=f"its conditions: {conditions}",
            )
        return url()

    def _from_world(self, url: str) -> Path:
        cache = IsoCache(self._folder)
        kept = cache.kept(url, self._folder)
        if kept is not None:
            return kept
        response = self._lab.fetch(url)
        if response.status != 200:
            raise LabError(f"the image service answered {response.status} for the discovery ISO", hint=masked(url))
        return cache.bring(url, self._folder, lambda part, known: _written(response, part))

    def _from_outside(self, url: str) -> Path:
        """On a thread of its own: the world goes on meanwhile, and may be asked to boot another machine."""
        world, outside = self._lab.world, self._lab.options.hub
        world.history.hide([url])
        ended: Future[Path] = Future()

        def work() -> None:
            try:
                trust = Trust(ca_pem="" if outside is None else outside.image_authorities())
                ended.set_result(downloaded(url, self._folder, trust, told_by(self._talk, url)))
            except BaseException as error:
                ended.set_exception(error)
            world.post(self._lab.has_changed)

        threading.Thread(target=work, name="discovery ISO", daemon=True).start()
        self._lab.run_until(ended.done, self._lab.now() + world.pace.floor_s(0.0, OUTSIDE_WITHIN_REAL_S))
        if not ended.done():
            raise LabError(f"{shown_url(url)} is not there yet, and the lab ends", hint="the next lab goes on with it")
        return ended.result()


def downloaded(url: str, into: Path, trust: Trust, progress: Progress) -> Path:
    """The image of a URL from the user's cache, downloaded where it is not there or has changed; by any thread.
    The cache is then held to its limit."""

    def bring(part: Path, known: Version | None) -> Version | None:
        return download(url, part, known=known, trust=trust, progress=progress)

    root = cache_root()
    path = IsoCache(root / DOWNLOADS).bring(url, into, bring)
    prune(root, cache_limit_bytes(), keep=[root / DOWNLOADS / path.name])
    return path


def told_by(talk: Callable[[str], None], url: str) -> Progress:
    """A progress that says a line at the start, every TELL_EVERY_S and at the end."""
    told_s = float("-inf")

    def progress(done: int, total: int | None) -> None:
        nonlocal told_s
        if done != total and monotonic_s() - told_s < TELL_EVERY_S:
            return
        told_s = monotonic_s()
        talk(f"downloading {shown_url(url)}: {format_size(done)}" + (f" of {format_size(total)}" if total else ""))

    return progress


def _written(response: Response, part: Path) -> Version:
    with part.open("wb") as file:
        if response.stream is None:
            file.write(response.body)
        else:
            while (chunk := response.stream.read()) is not None:
                file.write(chunk)
    return Version(last_modified=response.headers.get("last-modified", ""))
