"""The parts of the REST API that the image service and iPXE download: InfraEnvs and their files."""

from __future__ import annotations

from email.utils import formatdate

import orjson

from labsim.controllers.cim import urls
from labsim.controllers.cim.access import Access
from labsim.controllers.cim.database import Database
from labsim.controllers.cim.discovery_ignition import discovery_ignition
from labsim.controllers.cim.documents import infra_env_document
from labsim.controllers.cim.errors import ServiceError
from labsim.controllers.cim.host_states import is_rebooting_or_later
from labsim.controllers.cim.rows import InfraEnv
from labsim.controllers.cim.settings import CimSettings
from labsim.controllers.cim.tokens import TokenAuthority
from labsim.model.http import Request, Response, json_response


class Downloads:
    """Routes under /v2/infra-envs/{id} that hand out an InfraEnv's configuration."""

    def __init__(self, database: Database, settings: CimSettings, tokens: TokenAuthority, access: Access) -> None:
        self._database = database
        self._settings = settings
        self._tokens = tokens
        self._access = access

    def _row(self, request: Request, infra_env_id: str, now_s: float) -> InfraEnv:
        self._access.either(request, now_s, infra_env_id=infra_env_id)
        row = self._database.infra_envs.get(infra_env_id)
        if row is None:
            raise ServiceError(404, f"Failed to find infra env {infra_env_id}")
        return row

    def ignition(self, row: InfraEnv) -> bytes:
        """The discovery Ignition; its token is a new one for every image that the InfraEnv's changes bring."""
        token = self._tokens.sign({"infra_env_id": row.id}, f"agent/{row.id}/{row.images_made}")
        return discovery_ignition(row, self._settings, token)

    def infra_env(self, request: Request, elements: list[str], now_s: float) -> Response:
        return json_response(200, infra_env_document(self._row(request, elements[0], now_s), self._settings))

    def files(self, request: Request, elements: list[str], now_s: float) -> Response:
        row = self._row(request, elements[0], now_s)
        name = request.param("file_name")
        if name == "discovery.ign":
            body = self.ignition(row)
        elif name == "ipxe-script":
            body = self._ipxe_script(request, row).encode()
        elif name == "static-network-config":
            body = orjson.dumps(list(row.static_network))
        else:
            raise ServiceError(
                400,
                f"file_name in query should be one of [discovery.ign ipxe-script static-network-config], not {name!r}",
            )
        return Response(
            headers={
                "content-type": "application/octet-stream",
                "content-disposition": f'attachment; filename="{name}"',
                "last-modified": formatdate(int(row.updated_at_s), usegmt=True),
            },
            body=body,
        )

    def minimal_initrd(self, request: Request, elements: list[str], now_s: float) -> Response:
        """The ramdisk of static networks and proxies. Ours travel in the Ignition: there never is one."""
        self._row(request, elements[0], now_s)
        return Response(status=204)

    def _ipxe_script(self, request: Request, row: InfraEnv) -> str:
        mac = request.param("mac")
        if request.param("ipxe_script_type") == "boot-order-control" and mac and self._boots_from_disk(row, mac):
            raise ServiceError(404, "host is required to be booted from its disk")
        arguments = " ".join(row.kernel_arguments)
        kernel, rootfs = urls.kernel_url(self._settings, row), urls.rootfs_url(self._settings, row)
        initrd = urls.initrd_url(self._settings, row, row.image_token)
        return (
            "#!ipxe\n"
            f"initrd --name initrd {initrd}\n"
            f"kernel {kernel} initrd=initrd coreos.live.rootfs_url={rootfs} random.trust_cpu=on "
            f"rd.luks.options=discard ignition.firstboot ignition.platform.id=metal console=tty1 "
            f"console=ttyS0,115200n8 {arguments}\n"
            "boot\n"
        )

    def _boots_from_disk(self, row: InfraEnv, mac: str) -> bool:
        """A finished day-2 host (added-to-existing-cluster) gets the discovery script again."""
        for host_id in row.host_ids:
            host = self._database.hosts[row.id, host_id]
            nics = host.inventory.interfaces if host.inventory else ()
            if any(nic.get("mac_address", "").lower() == mac.lower() for nic in nics):
                return host.status == "installed" or (
                    host.status == "installing-in-progress" and is_rebooting_or_later(host.stage)
                )
        return False
