"""The InfraEnv controller: from an InfraEnv to its row in the database and its discovery ISO (cim-resources 2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from labsim.controllers.cim import urls
from labsim.controllers.cim.agent_creation import INFRA_ENV_LABEL
from labsim.controllers.cim.database import Database
from labsim.controllers.cim.discovery_ignition import MAX_ARCHIVE_KIB, discovery_ignition, parse_override
from labsim.controllers.cim.errors import ServiceError, UntypedError
from labsim.controllers.cim.events import Event
from labsim.controllers.cim.patching import patch_metadata, patch_status, with_condition, without_finalizer
from labsim.controllers.cim.pull_secret import InvalidPullSecret, check_pull_secret
from labsim.controllers.cim.rows import InfraEnv
from labsim.controllers.cim.secrets_access import no_such_secret, read_secret, secret_text
from labsim.controllers.cim.settings import CimSettings, OsImage
from labsim.controllers.cim.tokens import TokenAuthority
from labsim.controllers.runtime.effects import DONE, Controller, Key, Program, Result, Watch, get, list_all, now
from labsim.controllers.runtime.own_writes import OwnWrites
from labsim.discovery.embed import ignition_archive
from labsim.model.kinds import CLUSTER_DEPLOYMENT, INFRA_ENV, NMSTATE_CONFIG, SECRET
from labsim.model.objects import (
    Object,
    dig,
    finalizers_of,
    is_deleting,
    name_of,
    namespace_of,
    timestamp,
)

FINALIZER = "infraenv.agent-install.openshift.io/ai-deprovision"
PULL_SECRET_KEY = ".dockerconfigjson"  # noqa: S105  (a key's name)
_SSH_TYPE = re.compile(r"^(ssh-rsa|ssh-ed25519|ecdsa-[-a-z0-9]+) [A-Za-z0-9+/]+={0,3}( .*)?$")
_NTP_SOURCE = re.compile(r"^[A-Za-z0-9]([-A-Za-z0-9.:]*[A-Za-z0-9])?$")
_ARCHITECTURES = {"aarch64": "arm64", "amd64": "x86_64"}


class MissingCluster(Exception):
    """The InfraEnv's clusterRef leads to nothing yet. `requeue` says whether waiting may help."""

    def __init__(self, message: str, *, requeue: bool) -> None:
        super().__init__(message)
        self.message = message
        self.requeue = requeue


class InfraEnvs:
    """The controller, and who is woken by which other object."""

    def __init__(self, database: Database, settings: CimSettings, tokens: TokenAuthority) -> None:
        self._database = database
        self._settings = settings
        self._tokens = tokens
        self._own = OwnWrites()
        self._by_secret: dict[tuple[str, str], dict[Key, None]] = {}
        self._by_cluster: dict[tuple[str, str], dict[Key, None]] = {}
        self._selecting: dict[str, dict[Key, None]] = {}

    def controller(self) -> Controller:
        return Controller(
            name="infraenv",
            reconcile=self.reconcile,
            watches=(
                Watch(INFRA_ENV, when=self._seen),
                Watch(NMSTATE_CONFIG, lambda config: tuple(self._selecting.get(namespace_of(config), ()))),
                Watch(CLUSTER_DEPLOYMENT, self._of_cluster, when=_conditions_or_spec_changed),
                Watch(SECRET, self._of_secret),
            ),
        )

    def _seen(self, before: Object | None, after: Object | None) -> bool:
        """Keep the indexes; every event of an InfraEnv counts, but the echo of our own writes."""
        for obj, present in ((before, False), (after, True)):
            if obj is None:
                continue
            key = Key(namespace_of(obj), name_of(obj))
            secret = dig(obj, "spec", "pullSecretRef", "name", default="")
            _note(self._by_secret.setdefault((key.namespace, secret), {}), key, present)
            reference = dig(obj, "spec", "clusterRef", default={})
            place = (str(reference.get("namespace", "")), str(reference.get("name", "")))
            _note(self._by_cluster.setdefault(place, {}), key, present and bool(reference))
            selects = bool(dig(obj, "spec", "nmStateConfigLabelSelector", "matchLabels"))
            _note(self._selecting.setdefault(key.namespace, {}), key, present and selects)
        return after is None or not self._own.is_echo(after)

    def _of_secret(self, secret: Object) -> Iterable[Key]:
        return tuple(self._by_secret.get((namespace_of(secret), name_of(secret)), ()))

    def _of_cluster(self, cluster_deployment: Object) -> Iterable[Key]:
        return tuple(self._by_cluster.get((namespace_of(cluster_deployment), name_of(cluster_deployment)), ()))

    # -- one InfraEnv -----------------------------------------------------------------------------------------------

    def reconcile(self, key: Key) -> Program[Result]:
        obj = self._own.fresher(key, (yield from get(INFRA_ENV, key.namespace, key.name)))
        if obj is None:
            return DONE
        now_s = yield from now()
        if is_deleting(obj):
            yield from self._delete(obj)
            return DONE
        if FINALIZER not in finalizers_of(obj):
            obj = yield from patch_metadata(INFRA_ENV, obj, finalizers=[*finalizers_of(obj), FINALIZER])
        result = DONE
        status: Object = {**(obj.get("status") or {})}
        status["agentLabelSelector"] = {"matchLabels": {INFRA_ENV_LABEL: name_of(obj)}}
        try:
            row = yield from self._ensure_row(obj, now_s)
            self._show_image(row, status, now_s)
        except MissingCluster as missing:
            message = f"ClusterDeployment is missing: {missing.message}"
            self._condition(status, "Unknown", "MissingClusterDeployment", message, now_s)
            if missing.requeue:
                result = Result(requeue_after_s=self._settings.timeouts.infra_env_requeue_s)
        except ServiceError as error:
            self._show_error(error, status, now_s)
            if not error.is_input_error:
                result = Result(requeue_after_s=self._settings.timeouts.infra_env_requeue_s)
        self._own.wrote(obj, (yield from patch_status(INFRA_ENV, obj, status)))
        yield from self._database.wakes()
        return result

    def _delete(self, obj: Object) -> Program[None]:
        """The row goes without a look at its hosts; garbage collection then deletes the Agents."""
        row = self._database.infra_env_of(namespace_of(obj), name_of(obj))
        if row is not None:
            self._database.drop_infra_env(row)
        yield from without_finalizer(INFRA_ENV, obj, FINALIZER)

    def _ensure_row(self, obj: Object, now_s: float) -> Program[InfraEnv]:
        namespace, name, spec = namespace_of(obj), name_of(obj), obj.get("spec") or {}
        cluster_id = yield from self._cluster_id(spec)
        pull_secret = yield from self._pull_secret(namespace, spec)
        static_network = yield from self._static_network(spec)
        row = self._database.infra_env_of(namespace, name)
        wanted = self._wanted(spec, row)
        wanted.update(cluster_id=cluster_id, pull_secret=pull_secret, static_network=static_network)
        self._check_archive(row, namespace, name, wanted, now_s)
        if row is None:
            row = self._database.add_infra_env(namespace, name, now_s)
            self._database.update_infra_env(row, now_s, **wanted)
            self._issue(row, now_s)
            row.events_token = self._tokens.sign({"infra_env_id": row.id}, f"events/{row.id}")
        else:
            changed = {field: value for field, value in wanted.items() if getattr(row, field) != value}
            if changed:
                self._database.update_infra_env(row, now_s, **changed)
                self._issue(row, now_s)
        return row

    def _issue(self, row: InfraEnv, now_s: float) -> None:
        """A new download URL: every effective change brings one, for signatures are never the same."""
        number = row.images_made + 1
        token = self._tokens.sign({"infra_env_id": row.id}, f"image/{row.id}/{number}")
        self._database.update_infra_env(row, now_s, images_made=number, image_token=token, generated_at_s=now_s)
        image = self._os_image(row.openshift_version, row.cpu_architecture)
        self._database.update_infra_env(row, now_s, download_url=urls.iso_url(self._settings, row, image))
        key_is_set = "is set" if row.ssh_key else "is not set"
        message = f'Updated image information (Image type is "{row.image_type}", SSH public key {key_is_set})'
        self._database.add_event(Event("image_info_updated", "info", message, now_s, infra_env_id=row.id))

    # -- what the row is made of ------------------------------------------------------------------------------------

    def _cluster_id(self, spec: Object) -> Program[str]:
        reference = spec.get("clusterRef")
        if not reference:
            return ""
        namespace, name = reference["namespace"], reference["name"]
        cluster_deployment = yield from get(CLUSTER_DEPLOYMENT, namespace, name)
        if cluster_deployment is None:
            raise MissingCluster(
                f"failed to get clusterDeployment with name {name} in namespace {namespace}: "
                f'clusterdeployments.hive.openshift.io "{name}" not found',
                requeue=False,
            )
        cluster = self._database.cluster_of(namespace, name)
        if cluster is None:
            install = dig(cluster_deployment, "spec", "clusterInstallRef", "name")
            if install:
                hint = f"check AgentClusterInstall conditions: name {install} in namespace {namespace}"
            else:
                hint = "AgentClusterInstall is not defined in ClusterDeployment"
            raise MissingCluster(f"cluster does not exist: {name}, {hint}", requeue=True)
        return cluster.id

    def _pull_secret(self, namespace: str, spec: Object) -> Program[str]:
        name = dig(spec, "pullSecretRef", "name", default="")
        if not name:
            raise UntypedError("Missing reference to pull secret")
        secret = yield from read_secret(namespace, name)
        if secret is None:
            raise UntypedError(no_such_secret(name))
        text = secret_text(secret, PULL_SECRET_KEY)
        if text is None:
            raise UntypedError(f"secret {name} did not contain key {PULL_SECRET_KEY}")
        if self._settings.check_pull_secret:
            images = (self._settings.agent_image, self._settings.installer_image, self._settings.controller_image)
            try:
                check_pull_secret(text, images, self._settings.unauthenticated_registries)
            except InvalidPullSecret as error:
                # Upstream really puts the secret's text into the condition.
                raise UntypedError(f"invalid pull secret data in secret {name} {text}: {error}") from error
        return text

    def _static_network(self, spec: Object) -> Program[tuple[Object, ...]]:
        """NMStateConfigs are listed cluster-wide; an empty selector selects none."""
        labels = dig(spec, "nmStateConfigLabelSelector", "matchLabels", default={})
        if not labels:
            return ()
        configs = yield from list_all(NMSTATE_CONFIG, None, labels=labels)
        return tuple(
            {
                "network_yaml": dig(config, "spec", "config", default={}),
                "mac_interface_map": [
                    {"mac_address": nic.get("macAddress", ""), "logical_nic_name": nic.get("name", "")}
                    for nic in dig(config, "spec", "interfaces", default=[])
                ],
            }
            for config in configs
        )

    def _wanted(self, spec: Object, row: InfraEnv | None) -> dict[str, Any]:
        """The row's fields. What cannot be cleared through the resource stays where the field is empty."""
        arch = _ARCHITECTURES.get(spec.get("cpuArchitecture") or "x86_64", spec.get("cpuArchitecture") or "x86_64")
        own, additional = spec.get("ntpSources") or [], spec.get("additionalNTPSources") or []
        keeps = row is not None
        _check_ntp([*own, *additional])
        fields: dict[str, Any] = {
            "cpu_architecture": arch,
            "image_type": spec.get("imageType") or self._settings.image_type,
            "ssh_key": spec.get("sshAuthorizedKey") or "",
            "proxy": {key: value for key, value in (spec.get("proxy") or {}).items() if value},
            "ntp_sources": ",".join(own),
            "additional_ntp_sources": ",".join(additional),
            "ignition_override": spec.get("ignitionConfigOverride") or "",
        }
        if row is not None:
            for field, value in fields.items():
                if not value:
                    fields[field] = getattr(row, field)
        if fields["ntp_sources"] and fields["additional_ntp_sources"]:
            raise ServiceError(400, "ntp_sources and additional_ntp_sources are mutually exclusive")
        _check_ssh(fields["ssh_key"], is_update=keeps)
        if fields["image_type"] not in ("full-iso", "minimal-iso", "disconnected-iso"):
            raise ServiceError(400, "type in body should be one of [full-iso minimal-iso disconnected-iso]")
        if fields["ignition_override"]:
            parse_override(fields["ignition_override"])
        fields["kernel_arguments"] = _kernel_arguments(spec)
        bundle = spec.get("additionalTrustBundle") or ""
        if bundle and "-----BEGIN CERTIFICATE-----" not in bundle:
            raise ServiceError(400, "unable to parse trust bundle: invalid block")
        fields["additional_trust_bundle"] = bundle
        fields["ipxe_script_type"] = spec.get("ipxeScriptType") or "DiscoveryImageAlways"
        fields["openshift_version"] = self._version(spec, arch, row)
        return fields

    def _version(self, spec: Object, arch: str, row: InfraEnv | None) -> str:
        wanted = spec.get("osImageVersion") or ""
        if wanted:
            if not any(image.openshift_version == wanted for image in self._settings.os_images):
                raise ServiceError(400, "Specified OSImageVersion is missing from AgentServiceConfig")
            return str(wanted)
        if row is not None and row.openshift_version:
            return row.openshift_version
        images = [image for image in self._settings.os_images if image.cpu_architecture == arch]
        if not images:
            raise ServiceError(400, f"No OS image for Openshift version latest and architecture {arch}")
        return max(images, key=lambda image: _numbers(image.openshift_version)).openshift_version

    def _os_image(self, version: str, arch: str) -> OsImage:
        """The exact version, then x.y, then the newest patch of x.y."""
        images = [image for image in self._settings.os_images if image.cpu_architecture == arch]
        short = ".".join(version.split(".")[:2])
        for text in (version, short):
            for image in images:
                if image.openshift_version == text:
                    return image
        patches = [image for image in images if image.openshift_version.startswith(short + ".")]
        if patches:
            return max(patches, key=lambda image: _numbers(image.openshift_version))
        raise ServiceError(400, f"No OS image for Openshift version {version} and architecture {arch}")

    def _check_archive(
        self, row: InfraEnv | None, namespace: str, name: str, wanted: dict[str, Any], now_s: float
    ) -> None:
        """The packed Ignition must fit into the place that the ISO has for it."""
        if row is not None and all(getattr(row, field) == value for field, value in wanted.items()):
            return
        candidate = InfraEnv(row.id if row is not None else "0" * 36, namespace, name, now_s)
        for field, value in wanted.items():
            setattr(candidate, field, value)
        size_kib = len(ignition_archive(discovery_ignition(candidate, self._settings, "x" * 180))) // 1024
        if size_kib > MAX_ARCHIVE_KIB:
            raise ServiceError(
                400,
                f"The ignition archive size ({size_kib} KiB) is over the maximum allowable size "
                f"({MAX_ARCHIVE_KIB} KiB)",
            )

    # -- status -----------------------------------------------------------------------------------------------------

    def _condition(self, status: Object, value: str, reason: str, message: str, now_s: float) -> None:
        conditions = status.get("conditions") or []
        status["conditions"] = with_condition(conditions, "ImageCreated", value, reason, message, now_s)

    def _show_image(self, row: InfraEnv, status: Object, now_s: float) -> None:
        settings = self._settings
        if status.get("isoDownloadURL") != row.download_url:
            status["isoDownloadURL"] = row.download_url
            status["createdTime"] = timestamp(row.generated_at_s)
            status["bootArtifacts"] = {
                "kernel": urls.kernel_url(settings, row),
                "rootfs": urls.rootfs_url(settings, row),
                "initrd": urls.initrd_url(settings, row, row.image_token),
                "ipxeScript": urls.infra_env_file_url(settings, row, row.image_token, "ipxe-script"),
                "discoveryIgnitionURL": urls.infra_env_file_url(settings, row, row.image_token, "discovery.ign"),
            }
        debug = dict(status.get("debugInfo") or {})
        debug.setdefault("eventsURL", urls.events_url(settings, row.events_token, "infra_env_id", row.id))
        if row.static_network:
            url = urls.infra_env_file_url(settings, row, row.events_token, "static-network-config")
            debug.setdefault("staticNetworkDownloadURL", url)
        status["debugInfo"] = debug
        message = "InfraEnv is available: Image has been created"
        self._condition(status, "True", "InfraEnvAvailable", message, now_s)

    def _show_error(self, error: ServiceError, status: Object, now_s: float) -> None:
        status.pop("isoDownloadURL", None)
        status.pop("createdTime", None)
        what = "Failed to create image" if error.is_input_error else "Failed to create image due to an internal error"
        self._condition(status, "False", "ImageCreationError", f"{what}: {error.message}", now_s)


def _note(keys: dict[Key, None], key: Key, present: bool) -> None:
    if present:
        keys[key] = None
    else:
        keys.pop(key, None)


def _conditions_or_spec_changed(before: Object | None, after: Object | None) -> bool:
    return before is None or after is None or before.get("spec") != after.get("spec")


def _check_ntp(sources: list[str]) -> None:
    for source in sources:
        if not _NTP_SOURCE.match(source):
            raise ServiceError(400, f"Invalid NTP source: {source}")


def _check_ssh(text: str, *, is_update: bool) -> None:
    for key in text.splitlines():
        if key.strip() and not _SSH_TYPE.match(key.strip()):
            if not is_update:
                raise ServiceError(400, "SSH key is not valid")
            raise ServiceError(
                400,
                f"SSH key: {key.strip()} does not match any supported type: ssh-rsa, ssh-ed25519, ecdsa-[VARIANT]",
            )


def _kernel_arguments(spec: Object) -> tuple[str, ...]:
    values = []
    for argument in spec.get("kernelArguments") or ():
        operation = argument.get("operation", "append")
        if operation != "append":
            raise ServiceError(400, f"Only kernel argument operation append is supported.  Got {operation}")
        values.append(str(argument.get("value", "")))
    return tuple(values)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
