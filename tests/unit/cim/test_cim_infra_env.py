"""InfraEnvs: what is refused and how it is said, images, and boot artifacts."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import orjson
import pytest
from cim_lab import HOST_ID, PULL_SECRET, CimWorld, FakeAgent

from labsim.controllers.cim.settings import CimSettings, OsImage
from labsim.discovery.base_image import BaseImage, plain_base_image
from labsim.discovery.inspect import read_ignition
from labsim.model.http import Response
from labsim.model.kinds import AGENT, INFRA_ENV, NMSTATE_CONFIG, SECRET
from labsim.model.objects import Object, condition_of, new


def _created(env: Object) -> tuple[str, str, str]:
    found = condition_of(env, "ImageCreated")
    assert found is not None
    return found["status"], found["reason"], found["message"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"sshAuthorizedKey": "nonsense"}, "SSH key is not valid"),
        ({"additionalNTPSources": ["not a host"]}, "Invalid NTP source: not a host"),
        (
            {"additionalNTPSources": ["a"], "ntpSources": ["b"]},
            "ntp_sources and additional_ntp_sources are mutually exclusive",
        ),
        (
            {"kernelArguments": [{"operation": "delete", "value": "quiet"}]},
            "Only kernel argument operation append is supported.  Got delete",
        ),
        ({"osImageVersion": "3.11"}, "Specified OSImageVersion is missing from AgentServiceConfig"),
        ({"additionalTrustBundle": "x"}, "unable to parse trust bundle: invalid block"),
    ],
)
def test_input_errors_clear_the_image_and_are_not_retried(spec: Object, message: str) -> None:
    world = CimWorld()
    env = world.infra_env(**spec)
    assert _created(env) == ("False", "ImageCreationError", f"Failed to create image: {message}")
    assert "isoDownloadURL" not in env["status"]
    reconciles = world.world.engine.reconciles
    world.run(120)
    assert world.world.engine.reconciles - reconciles < 5


def test_an_error_takes_the_image_away_and_mending_brings_it_back() -> None:
    world = CimWorld()
    assert world.infra_env()["status"]["isoDownloadURL"]

    def patch(spec: Object) -> Object:
        merge = "application/merge-patch+json"
        world.hub.patch(INFRA_ENV, "agents", "lab", {"spec": spec}, patch_type=merge)
        world.run(1)
        return world.get(INFRA_ENV, "agents", "lab")

    broken = patch({"sshAuthorizedKey": "nonsense"})
    assert "does not match any supported type: ssh-rsa, ssh-ed25519, ecdsa-[VARIANT]" in _created(broken)[2]
    assert "isoDownloadURL" not in broken["status"]
    assert "createdTime" not in broken["status"]
    assert patch({"sshAuthorizedKey": "ssh-ed25519 AAAAC3Nz me@lab"})["status"]["isoDownloadURL"]


def test_a_missing_pull_secret_is_waited_for() -> None:
    world = CimWorld()
    env = world.infra_env("late", pullSecretRef={"name": "later"})
    assert _created(env)[2] == (
        'Failed to create image due to an internal error: failed to find secret later: secrets "later" not found'
    )
    world.secret("agents", "later", {".dockerconfigjson": PULL_SECRET})
    world.run(1)
    assert _created(world.get(INFRA_ENV, "agents", "late"))[0] == "True"
    labels = world.get(SECRET, "agents", "later")["metadata"]["labels"]
    assert labels["agent-install.openshift.io/watch"] == "true"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "pull secret must be a well-formed JSON"),
        ("{}", "pull secret must contain 'auths' JSON-object field"),
        ('{"auths":{"q":{"auth":"%"}}}', "invalid pull secret: 'auth' field of \"q\" is not base64-encoded"),
        (
            '{"auths":{"q":{"auth":"bm9uZQ=="}}}',
            "invalid pull secret: 'auth' for q is not in 'user:password' format",
        ),
    ],
)
def test_bad_pull_secrets_are_shown_with_their_text(text: str, why: str) -> None:
    world = CimWorld()
    world.secret("agents", "bad", {".dockerconfigjson": text})
    env = world.infra_env("bad", pullSecretRef={"name": "bad"})
    assert _created(env)[2] == (
        f"Failed to create image due to an internal error: invalid pull secret data in secret bad {text}: {why}"
    )


def test_a_registry_without_credentials_is_refused() -> None:
    world = CimWorld(settings=CimSettings(agent_image="registry.lab/agent:1"))
    assert _created(world.infra_env())[2].endswith('pull secret must contain auth for "registry.lab"')


def test_a_cluster_that_is_not_there_is_missing() -> None:
    world = CimWorld()
    env = world.infra_env("bound", clusterRef={"namespace": "clusters-example", "name": "example"})
    assert _created(env)[:2] == ("Unknown", "MissingClusterDeployment")
    world.cluster()
    world.run(25)
    env = world.get(INFRA_ENV, "agents", "bound")
    assert _created(env)[0] == "True"
    agent = FakeAgent(world, env="bound")
    assert agent.register().json()["status"] == "discovering"
    world.run(1)
    assert world.agent()["spec"]["clusterDeploymentName"] == {"name": "example", "namespace": "clusters-example"}


def test_network_configurations_are_selected_by_label() -> None:
    world = CimWorld()
    env = world.infra_env("static", nmStateConfigLabelSelector={"matchLabels": {"net": "lab"}})
    nic = {"name": "eth0", "macAddress": "52:54:00:aa:bb:01"}
    config = new(NMSTATE_CONFIG, "agents", "a", spec={"interfaces": [nic], "config": {"interfaces": []}})
    config["metadata"]["labels"] = {"net": "lab"}
    world.hub.create(config, NMSTATE_CONFIG)
    world.run(1)
    after = world.get(INFRA_ENV, "agents", "static")
    assert after["status"]["isoDownloadURL"] != env["status"]["isoDownloadURL"]
    url = after["status"]["debugInfo"]["staticNetworkDownloadURL"]
    assert world.fetch("GET", url).json()[0]["mac_interface_map"] == [
        {"mac_address": "52:54:00:aa:bb:01", "logical_nic_name": "eth0"}
    ]


def test_versions_are_the_newest_unless_said() -> None:
    images = tuple(OsImage(openshift_version=version, version=f"{version}-0") for version in ("4.9", "4.18", "4.17"))
    world = CimWorld(settings=CimSettings(os_images=images))
    assert "/4.18/x86_64/" in world.infra_env()["status"]["isoDownloadURL"]
    assert "/4.17/x86_64/" in world.infra_env("old", osImageVersion="4.17")["status"]["isoDownloadURL"]


def test_deleting_an_infra_env_does_not_look_at_its_hosts() -> None:
    world = CimWorld()
    world.infra_env()
    FakeAgent(world).register()
    world.hub.delete(INFRA_ENV, "agents", "lab")
    world.run(2)
    assert world.cim.database.infra_envs == {}
    world.hub.delete(AGENT, "agents", HOST_ID)
    world.run(2)
    assert world.cim.database.hosts == {}
    assert world.hub.list(AGENT, "agents")[0] == []


# -- images --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseImage:
    return plain_base_image(tmp_path_factory.mktemp("base"))


def _content(answer: Response) -> bytes:
    if answer.stream is None:
        return answer.body
    chunks = []
    while (chunk := answer.stream.read()) is not None:
        chunks.append(chunk)
    return b"".join(chunks)


def test_the_downloaded_image_starts_the_agent(base: BaseImage, tmp_path: Path) -> None:
    entry = "192.168.122.1 assisted-service.labsim.internal\n"
    settings = CimSettings(base_image=base, ca_pem="CA", hosts_entry=entry, pace_json='{"speed": 1}')
    world = CimWorld(settings=settings)
    env = world.infra_env(sshAuthorizedKey="ssh-ed25519 AAAAC3Nz me@lab", kernelArguments=[
        {"operation": "append", "value": "console=ttyS0"}])  # fmt: skip
    answer = world.fetch("GET", env["status"]["isoDownloadURL"])
    content = _content(answer)
    assert (answer.status, answer.headers["content-length"]) == (200, str(base.size_bytes))
    assert len(content) == base.size_bytes
    assert "etag" not in answer.headers
    row = world.cim.database.infra_env_of("agents", "lab")
    assert row is not None
    assert answer.headers["content-disposition"] == f"attachment; filename={row.id}-discovery.iso"
    iso = tmp_path / "d.iso"
    iso.write_bytes(content)
    ignition = orjson.loads(read_ignition(iso))
    assert ignition["ignition"]["version"] == "3.1.0"
    units = {unit["name"]: unit.get("contents", "") for unit in ignition["systemd"]["units"]}
    command = (
        f"ExecStart=/usr/local/bin/agent --url https://assisted-service.labsim.internal --infra-env-id {row.id} "
        f"--agent-version {settings.agent_image} --insecure=false --cacert /etc/assisted-service/service-ca-cert.crt"
    )
    assert command in units["agent.service"].splitlines()
    files = {file["path"]: _text(file) for file in ignition["storage"]["files"]}
    assert files["/etc/hosts"].endswith(entry)
    assert files["/root/.docker/config.json"] == PULL_SECRET
    assert files["/etc/labsim/pace.json"] == '{"speed": 1}'
    assert ignition["passwd"]["users"][0]["sshAuthorizedKeys"] == ["ssh-ed25519 AAAAC3Nz me@lab"]
    token = next(
        line.partition("PULL_SECRET_TOKEN=")[2] for line in units["agent.service"].splitlines() if "_TOKEN=" in line
    )
    assert world.cim.tokens.verify(token) == {"infra_env_id": row.id}
    part = world.fetch("GET", env["status"]["isoDownloadURL"], range="bytes=100-199")
    assert (part.status, _content(part)) == (206, content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{base.size_bytes}"
    assert world.fetch("GET", env["status"]["isoDownloadURL"], range=f"bytes={10**12}-").status == 416
    for wrong in ("x", "bytes=-", "bytes=5-1", "bytes=\u00b2-", "bytes=" + "9" * 5000 + "-"):
        assert world.fetch("GET", env["status"]["isoDownloadURL"], range=wrong).status == 416, wrong
    modified = answer.headers["last-modified"]
    assert world.fetch("GET", env["status"]["isoDownloadURL"], b"", **{"if-modified-since": modified}).status == 304


def _text(file: Any) -> str:
    from urllib.parse import unquote

    head, _, data = file["contents"]["source"].partition(",")
    return base64.b64decode(data).decode() if head.endswith("base64") else unquote(data)


def test_an_old_address_serves_the_new_configuration_until_its_infra_env_goes(base: BaseImage) -> None:
    world = CimWorld(settings=CimSettings(base_image=base))
    old = world.infra_env()["status"]["isoDownloadURL"]
    before = _content(world.fetch("GET", old))
    world.hub.patch(
        INFRA_ENV, "agents", "lab", {"spec": {"sshAuthorizedKey": "ssh-rsa AAAA x"}},
        patch_type="application/merge-patch+json",
    )  # fmt: skip
    world.run(1)
    assert _content(world.fetch("GET", old)) != before
    world.hub.delete(INFRA_ENV, "agents", "lab")
    world.run(700)
    refused = world.fetch("GET", old)
    assert (refused.status, refused.body) == (401, b"")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/byapikey/rubbish/4.18/x86_64/minimal.iso", 404),
        ("/byapikey/{token}/9.99/x86_64/minimal.iso", 404),
        ("/byapikey/{token}/4.18/x86_64/other.iso", 404),
        ("/images/{id}", 400),
        ("/images/{id}?version=4.18&type=minimal-iso&api_key={token}", 200),
        ("/images/{id}/pxe-initrd?version=9.99&api_key={token}", 400),
        ("/images/{id}/pxe-initrd?version=4.18&api_key={token}", 200),
        ("/images/{id}/pxe-initrd?version=4.18&api_key=x", 401),
        ("/boot-artifacts/kernel?version=4.18", 200),
        ("/boot-artifacts/kernel?version=9.99", 400),
        ("/boot-artifacts/other?version=4.18", 404),
        ("/health", 200),
        ("/live", 200),
        ("/nothing", 404),
    ],
)
def test_the_image_service_s_answers(base: BaseImage, path: str, status: int) -> None:
    world = CimWorld(settings=CimSettings(base_image=base))
    world.infra_env()
    row = world.cim.database.infra_env_of("agents", "lab")
    assert row is not None
    url = "https://assisted-image-service.labsim.internal" + path.format(token=row.image_token, id=row.id)
    assert world.fetch("GET", url).status == status


def test_images_are_not_ready_without_a_base() -> None:
    world = CimWorld()
    url = world.infra_env()["status"]["isoDownloadURL"]
    assert world.fetch("GET", url).status == 503
    assert world.fetch("GET", "https://assisted-image-service.labsim.internal/health").status == 503
    assert world.fetch("POST", "https://assisted-image-service.labsim.internal/boot-artifacts/kernel").status == 405
