"""A lab's discovery ISOs: from its own image service once per change, and from a real one with its authority."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from image_server import TUESDAY, ImageServer, serving

from labsim.cli.iso_download import download_iso_file
from labsim.controllers.cim.image import NAME as IMAGE_SERVICE
from labsim.errors import LabError
from labsim.hub.plain.connection import ClusterAccess, ClusterConnection
from labsim.hub.plain.image_of import image_authorities
from labsim.kube.errors import ApiError
from labsim.lab.lab import Lab
from labsim.lab.lab_request import LabRequest
from labsim.lab.opening import OpenLab, open_lab
from labsim.lab.virtual_machines import open_paced_lab
from labsim.model.kinds import CONFIG_MAP, INFRA_ENV
from labsim.model.scenario import LabSpec

PARTS = {"infraEnvs": [{"name": "lab"}], "machines": [{"name": "worker", "infraEnv": "lab"}]}
SPEC = LabSpec.model_validate(PARTS)
CIM_OUTSIDE = LabSpec.model_validate({**PARTS, "hub": {"components": {"cim": "external"}}})


def image_requests(lab: Lab) -> list[str]:
    seen: list[str] = []

    def heard(line: dict[str, Any]) -> None:
        if line["service"] == IMAGE_SERVICE:
            seen.append(line["path"])

    lab.world.history.listen(heard, "request")
    return seen


def test_our_own_image_is_fetched_once_until_the_infra_env_changes(tmp_path: Path) -> None:
    with open_lab(SPEC, LabRequest(name="x", folder=tmp_path)) as opened:
        lab = opened.lab
        lab.make()
        seen = image_requests(lab)
        first = lab.discovery_iso(SPEC.infra_envs[0])
        assert lab.discovery_iso(SPEC.infra_envs[0]) == first
        assert len(seen) == 1
        lab.hub.patch(INFRA_ENV, "labsim", "lab", {"spec": {"additionalNTPSources": ["ntp.hub.test"]}})
        lab.world.run_for(60)
        second = lab.discovery_iso(SPEC.infra_envs[0])
        assert len(seen) == 2
        assert second.read_bytes() != first.read_bytes()


def test_our_own_image_is_fetched_again_where_its_file_was_changed(tmp_path: Path) -> None:
    with open_lab(SPEC, LabRequest(name="x", folder=tmp_path)) as opened:
        opened.lab.make()
        path = opened.lab.discovery_iso(SPEC.infra_envs[0])
        whole = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(whole[:-2048])
        assert opened.lab.discovery_iso(SPEC.infra_envs[0]).read_bytes() == whole


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageServer]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serving(tmp_path) as made:
        yield made


@pytest.fixture
def outside(tmp_path: Path, image: ImageServer) -> Iterator[OpenLab]:
    """A lab whose CIM somebody else runs: what it has is an InfraEnv with that one's URL."""
    with open_paced_lab(CIM_OUTSIDE, LabRequest(name="x", folder=tmp_path / "lab", speed=1000.0)) as opened:
        opened.lab.make()
        body = {"status": {"isoDownloadURL": image.url}}
        opened.lab.hub.patch(INFRA_ENV, "labsim", "lab", body, subresource="status")
        yield opened


def test_a_real_image_service_is_asked_whether_it_has_another_one(
    outside: OpenLab, image: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ca.pem").write_text(image.authority.ca_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    lab = outside.lab
    first = lab.discovery_iso(SPEC.infra_envs[0])
    assert first.read_bytes() == image.content
    assert first.is_relative_to(tmp_path / "lab"), "the lab's own"
    sent = image.sent_bytes
    assert lab.discovery_iso(SPEC.infra_envs[0]) == first
    assert image.sent_bytes == sent
    image.content, image.last_modified = image.content + bytes(2048), TUESDAY
    assert lab.discovery_iso(SPEC.infra_envs[0]).read_bytes() == image.content


def test_a_real_image_service_is_not_believed_without_its_authority(outside: OpenLab, image: ImageServer) -> None:
    with pytest.raises(LabError, match="CERTIFICATE_VERIFY_FAILED"):
        outside.lab.discovery_iso(SPEC.infra_envs[0])


def test_an_infra_env_of_a_hub_is_downloaded_with_what_its_kubeconfig_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with open_paced_lab(SPEC, LabRequest(name="x", folder=tmp_path / "lab", speed=1000.0)) as opened:
        opened.lab.make()
        own = opened.lab.discovery_iso(SPEC.infra_envs[0])
        opened.write_kubeconfig(tmp_path / "kubeconfig")
        target = tmp_path / "out.iso"
        codes: list[int] = []

        def work() -> None:
            try:
                codes.append(
                    download_iso_file("labsim/lab", target, kubeconfig=tmp_path / "kubeconfig", context="", ca=None)
                )
            finally:
                opened.lab.world.post(opened.lab.has_changed)

        thread = threading.Thread(target=work)
        thread.start()
        opened.lab.run_until(lambda: not thread.is_alive(), opened.lab.now() + 60_000)
        thread.join()
    assert codes == [0]
    assert target.read_bytes() == own.read_bytes()
    assert capsys.readouterr().out == f"{target}\n"
    assert not list((tmp_path / "cache" / "labsim").glob("download-*"))


def test_the_authority_of_a_hubs_ingress_is_trusted_too(tmp_path: Path) -> None:
    class Connection(ClusterConnection):
        def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
            if path != CONFIG_MAP.path("openshift-config-managed", "default-ingress-cert"):
                raise ApiError(404, "NotFound", path)
            return {"data": {"ca-bundle.crt": "the ingress"}}

    with open_paced_lab(SPEC, LabRequest(name="x", folder=tmp_path / "lab", speed=1000.0)) as opened:
        opened.write_kubeconfig(tmp_path / "kubeconfig")
        connection = Connection(ClusterAccess(kubeconfig=tmp_path / "kubeconfig"))
        found = image_authorities(connection)
        assert opened.serving is not None
        assert found == opened.serving.authority.ca_pem + "\nthe ingress"
        connection.close()
