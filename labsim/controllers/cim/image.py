"""assisted-image-service: discovery ISOs assembled at download, and boot artifacts (cim-resources 4.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import orjson

from labsim.controllers.cim.settings import CimSettings, OsImage
from labsim.controllers.cim.tokens import unverified_claims
from labsim.controllers.cim.urls import API
from labsim.controllers.runtime.effects import Program, Unreachable, http
from labsim.discovery.embed import EmbedError, IsoOverlay, ignition_archive
from labsim.guest import cpio
from labsim.guest.iso9660 import IsoReader
from labsim.model.http import Request, Response, request_for_url

FILE_TYPES = {"full.iso": "full-iso", "minimal.iso": "minimal-iso", "disconnected.iso": "disconnected-iso"}
ARTIFACTS = {
    "kernel": "/images/pxeboot/vmlinuz",
    "rootfs": "/images/pxeboot/rootfs.img",
    "initrd": "/images/pxeboot/initrd.img",
}
NAME = "assisted-image-service"
_RANGE = re.compile(r"^bytes=(\d{0,18})-(\d{0,18})$", re.ASCII)


class ImageError(Exception):
    """An answer that is no image."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.response = Response(
            status=status,
            headers={"content-type": "text/plain; charset=utf-8"},
            body=f"{text}\n".encode() if text else b"",
        )


class OverlayStream:
    """The bytes of an ISO as a body: everything is there, so it never waits."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def read(self) -> bytes | None:
        return next(self._chunks, None)

    def on_ready(self, callback: Any) -> None:
        """Nobody needs to be called: `read` never has nothing."""

    def close(self) -> None:
        self._chunks = iter(())


class ImageService:
    """The handler "assisted-image-service"."""

    def __init__(self, settings: CimSettings) -> None:
        self._settings = settings

    def handle(self, request: Request) -> Program[Response]:
        try:
            response: Response = yield from self._routed(request)
        except ImageError as error:
            return error.response
        return response

    def _routed(self, request: Request) -> Program[Response]:
        parts = request.path.strip("/").split("/")
        if parts == ["live"]:
            return Response()
        if parts == ["health"]:
            return Response(status=200 if self._settings.base_image is not None else 503)
        if parts[0] == "boot-artifacts" and len(parts) == 2:
            return self._artifact(request, parts[1])
        if request.method not in ("GET", "HEAD"):
            raise ImageError(405)
        if request.scheme == "http" and parts[-1] != "pxe-initrd":
            raise ImageError(404, "404 page not found")
        if parts[0] in ("byapikey", "bytoken", "byid") and len(parts) == 5:
            identity, token = self._identity(parts[0], parts[1])
            return (yield from self._iso(request, identity, token, *parts[2:]))
        if parts[0] == "images" and len(parts) == 3 and parts[2] == "pxe-initrd":
            return (yield from self._initrd(request, parts[1]))
        if parts[0] == "images" and len(parts) == 2:
            return (yield from self._by_query(request, parts[1]))
        raise ImageError(404, "404 page not found")

    def _identity(self, kind: str, text: str) -> tuple[str, str]:
        """(InfraEnv id, token). The token is read here, and checked by assisted-service."""
        if kind == "byid":
            return text, ""
        claims = unverified_claims(text)
        identity = claims.get("infra_env_id") or claims.get("sub") if claims else None
        if not isinstance(identity, str):
            raise ImageError(404, "failed to parse JWT from URL")
        return identity, text

    def _by_query(self, request: Request, infra_env_id: str) -> Program[Response]:
        """The old form of the URL: everything in the query."""
        if not request.param("version"):
            raise ImageError(400, "'version' parameter required")
        wanted = request.param("type")
        if not wanted:
            raise ImageError(400, "'type' parameter required")
        names = {kind: name for name, kind in FILE_TYPES.items()}
        if wanted not in names:
            raise ImageError(400, f"invalid value '{wanted}' for parameter 'type'")
        arch = request.param("arch") or "x86_64"
        token = request.param("api_key")
        return (yield from self._iso(request, infra_env_id, token, request.param("version"), arch, names[wanted]))

    def _os_image(self, version: str, arch: str, *, status: int) -> OsImage:
        """By the operating system's build first, then by the OpenShift version."""
        images = [image for image in self._settings.os_images if image.cpu_architecture == arch]
        for field in ("version", "openshift_version"):
            for image in images:
                if getattr(image, field) == version:
                    return image
        raise ImageError(status, f"version for {version} {arch}, not found")

    # -- images -----------------------------------------------------------------------------------------------------

    def _iso(
        self, request: Request, infra_env_id: str, token: str, version: str, arch: str, file_name: str
    ) -> Program[Response]:
        if file_name not in FILE_TYPES:
            raise ImageError(404, f"unrecognized file name {file_name}")
        self._os_image(version, arch, status=404)
        base = self._settings.base_image
        if base is None:
            raise ImageError(503, "images are not ready")
        kind = FILE_TYPES[file_name]
        ignition, modified = yield from self._ignition(request, infra_env_id, token, kind)
        if kind == "minimal-iso":
            yield from self._ask(request, f"/v2/infra-envs/{infra_env_id}/downloads/minimal-initrd", token, {})
        arguments = yield from self._kernel_arguments(request, infra_env_id, token)
        try:
            overlay = IsoOverlay(base.path, ignition, arguments)
        except EmbedError as error:
            raise ImageError(500, error.message) from error
        headers = {
            "content-type": "application/octet-stream",
            "content-disposition": f"attachment; filename={infra_env_id}-discovery.iso",
            "accept-ranges": "bytes",
            "last-modified": modified,
        }
        if modified and request.headers.get("if-modified-since") == modified:
            return Response(status=304, headers={"last-modified": modified})
        return _ranged(request, headers, overlay)

    def _initrd(self, request: Request, infra_env_id: str) -> Program[Response]:
        arch = request.param("arch") or "x86_64"
        self._os_image(request.param("version"), arch, status=400)
        ignition, modified = yield from self._ignition(request, infra_env_id, request.param("api_key"), "")
        body = cpio.pad4(self._base_file("initrd")) + ignition_archive(ignition)
        return Response(
            headers={
                "content-type": "application/octet-stream",
                "content-disposition": f"attachment; filename={infra_env_id}-initrd.img",
                "last-modified": modified,
            },
            body=body,
        )

    def _artifact(self, request: Request, name: str) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise ImageError(405)
        if name not in ("kernel", "rootfs", "ins-file"):
            raise ImageError(404, "404 page not found")
        self._os_image(request.param("version"), request.param("arch") or "x86_64", status=400)
        return Response(headers={"content-type": "application/octet-stream"}, body=self._base_file(name))

    def _base_file(self, name: str) -> bytes:
        base = self._settings.base_image
        if base is None:
            raise ImageError(503, "images are not ready")
        try:
            with base.path.open("rb") as file:

                def read(offset: int, length: int) -> bytes:
                    file.seek(offset)
                    return file.read(length)

                return IsoReader(read).read(ARTIFACTS.get(name, ""), 512 << 20)
        except (FileNotFoundError, KeyError) as error:
            raise ImageError(404, f"the image has no {name}") from error

    # -- assisted-service ------------------------------------------------------------------------------------------

    def _ignition(self, request: Request, infra_env_id: str, token: str, kind: str) -> Program[tuple[bytes, str]]:
        query = {"file_name": "discovery.ign"}
        if kind:
            query["discovery_iso_type"] = kind
        path = f"/v2/infra-envs/{infra_env_id}/downloads/files"
        answer = yield from self._ask(request, path, token, query)
        return answer.body, answer.headers.get("last-modified", "")

    def _kernel_arguments(self, request: Request, infra_env_id: str, token: str) -> Program[list[str]]:
        answer = yield from self._ask(request, f"/v2/infra-envs/{infra_env_id}", token, {})
        text = answer.json().get("kernel_arguments")
        return [str(entry["value"]) for entry in orjson.loads(text)] if text else []

    def _ask(self, request: Request, path: str, token: str, query: dict[str, str]) -> Program[Response]:
        """A request with the caller's own token; what is no success is passed on, without its body."""
        headers: dict[str, str] = {}
        if token:
            query = {**query, "api_key": token}
        elif "authorization" in request.headers:
            headers["authorization"] = request.headers["authorization"]
        url = f"{self._settings.service_base_url}{API}{path}"
        if query:
            url += f"?{urlencode(sorted(query.items()))}"
        try:
            answer: Response = yield from http(request_for_url("GET", url, headers=headers, client=NAME))
        except Unreachable as error:
            raise ImageError(500, str(error)) from error
        if answer.status >= 300:
            raise ImageError(answer.status)
        return answer


def _ranged(request: Request, headers: dict[str, str], overlay: IsoOverlay) -> Response:
    """The whole image, or the one range that is asked for."""
    size = overlay.size_bytes
    start, end, status = 0, size, 200
    wanted = request.headers.get("range", "")
    match = _RANGE.match(wanted)
    if wanted and "," not in wanted and (match is None or not (match[1] or match[2])):
        return Response(status=416, headers={"content-type": "text/plain; charset=utf-8"}, body=b"invalid range\n")
    if match and (match[1] or match[2]):
        if match[1]:
            start = int(match[1])
            end = min(size, int(match[2]) + 1) if match[2] else size
        else:
            start = max(0, size - int(match[2]))
        if start >= size or start >= end:
            return Response(status=416, headers={"content-range": f"bytes */{size}"})
        status = 206
        headers = {**headers, "content-range": f"bytes {start}-{end - 1}/{size}"}
    headers = {**headers, "content-length": str(end - start)}
    if request.method == "HEAD":
        return Response(status=status, headers=headers)
    return Response(status=status, headers=headers, stream=OverlayStream(overlay.chunks(start, end)))
