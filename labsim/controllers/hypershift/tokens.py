"""The ignition token and user-data Secrets of NodePools (fact sheet, section 4.3)."""

from __future__ import annotations

import base64
import gzip

import orjson

from labsim.controllers.hypershift.desired import ensure, ensure_exists
from labsim.controllers.hypershift.kubeconfigs import encoded, secret, secret_text
from labsim.controllers.hypershift.names import (
    IGNITION_CONFIG,
    NODE_POOL_ANNOTATION,
    TOKEN_EXPIRES,
    TOKEN_GENERATED,
    hash_of,
)
from labsim.controllers.hypershift.settings import HyperShiftSettings
from labsim.controllers.runtime.effects import Program, delete, get, list_all, now, patch, update
from labsim.entropy import Entropy
from labsim.model.kinds import SECRET
from labsim.model.objects import Object, annotations_of, dig, name_of, namespace_of, parse_timestamp, thaw, timestamp


def config_hash(node_pool: Object, cluster: Object) -> str:
    """What a node's configuration depends on: another value means new Secrets and a rollout.

    The pull secret counts by its name, not by its content.
    """
    return hash_of(
        {
            "release": dig(node_pool, "spec", "release", "image"),
            "pullSecret": dig(cluster, "spec", "pullSecret", "name"),
            "sshKey": dig(cluster, "spec", "sshKey", "name"),
            "additionalTrustBundle": dig(cluster, "spec", "additionalTrustBundle", "name"),
            "configuration": dig(cluster, "spec", "configuration"),
            "config": dig(node_pool, "spec", "config"),
            "tuningConfig": dig(node_pool, "spec", "tuningConfig"),
            "fips": dig(cluster, "spec", "fips"),
            "imageContentSources": dig(cluster, "spec", "imageContentSources"),
        }
    )


def global_hash(cluster: Object) -> str:
    """The hash of what only the HostedCluster decides."""
    return hash_of({"configuration": dig(cluster, "spec", "configuration")})


def token_name(node_pool: str, config: str) -> str:
    return f"token-{node_pool}-{config}"


def user_data_name(node_pool: str, config: str) -> str:
    return f"user-data-{node_pool}-{config}"


class NodePoolSecrets:
    """Makes, rotates and retires the two Secrets of each configuration of a NodePool."""

    def __init__(self, settings: HyperShiftSettings, entropy: Entropy) -> None:
        self._settings = settings
        self._entropy = entropy

    def ensure_current(
        self, node_pool: Object, cluster: Object, place: str, config: str, ca_pem: str
    ) -> Program[tuple[Object, float]]:
        """The token Secret of this configuration, and the seconds until its token is rotated."""
        name = name_of(node_pool)
        text = f"{namespace_of(node_pool)}/{name}"
        moment_s = yield from now()
        present = yield from get(SECRET, place, token_name(name, config))
        if present is None:
            token = self._token(text, config, moment_s)
            made = self._token_secret(node_pool, cluster, place, config, token, moment_s)
            present = yield from ensure_exists(made, SECRET)
        age_s = moment_s - parse_timestamp(annotations_of(present)[TOKEN_GENERATED])
        if age_s >= self._settings.token_rotation_s:
            present = yield from self._rotate(present, text, config, moment_s)
            age_s = 0.0
        yield from ensure(
            self._user_data(node_pool, cluster, place, config, secret_text(present, "token"), ca_pem), SECRET
        )
        return present, self._settings.token_rotation_s - age_s

    def retire_others(self, node_pool: Object, place: str, config: str) -> Program[None]:
        """Let the tokens of older configurations expire, and delete their user data."""
        text, name = f"{namespace_of(node_pool)}/{name_of(node_pool)}", name_of(node_pool)
        for entry in (yield from self._secrets_of(place, text)):
            if name_of(entry) in (token_name(name, config), user_data_name(name, config)):
                continue
            if IGNITION_CONFIG not in annotations_of(entry):
                yield from _delete(entry)
                continue
            moment_s = yield from now()
            expires = annotations_of(entry).get(TOKEN_EXPIRES)
            if expires is None:
                expires = timestamp(moment_s + self._settings.token_expiration_s)
                body = {"metadata": {"annotations": {TOKEN_EXPIRES: expires}}}
                yield from patch(SECRET, place, name_of(entry), body)
            elif parse_timestamp(expires) <= moment_s:
                yield from _delete(entry)

    def delete_all(self, node_pool: Object, place: str) -> Program[None]:
        text = f"{namespace_of(node_pool)}/{name_of(node_pool)}"
        for entry in (yield from self._secrets_of(place, text)):
            yield from _delete(entry)

    def _secrets_of(self, place: str, text: str) -> Program[list[Object]]:
        found = yield from list_all(SECRET, place)
        return [entry for entry in found if annotations_of(entry).get(NODE_POOL_ANNOTATION) == text]

    def _token(self, text: str, config: str, moment_s: float) -> str:
        return self._entropy.uuid(f"token/{text}/{config}/{int(moment_s)}")

    def _token_secret(
        self, node_pool: Object, cluster: Object, place: str, config: str, token: str, moment_s: float
    ) -> Object:
        upgrade = str(dig(node_pool, "spec", "management", "upgradeType"))
        packed = gzip.compress(orjson.dumps({"hash": config}), mtime=0)
        values = {
            "token": token,
            "release": str(dig(node_pool, "spec", "release", "image")),
            "config": base64.b64encode(packed).decode(),
            "pull-secret-hash": hash_of(dig(cluster, "spec", "pullSecret", "name")),
            "hc-configuration-hash": global_hash(cluster),
            "additional-trust-bundle-hash": hash_of(dig(cluster, "spec", "additionalTrustBundle", "name")),
        }
        return secret(
            place,
            token_name(name_of(node_pool), config),
            values,
            annotations={
                IGNITION_CONFIG: "true",
                TOKEN_GENERATED: timestamp(moment_s),
                NODE_POOL_ANNOTATION: f"{namespace_of(node_pool)}/{name_of(node_pool)}",
                "hypershift.openshift.io/node-pool-upgrade-type": upgrade,
            },
        )

    def _rotate(self, present: Object, text: str, config: str, moment_s: float) -> Program[Object]:
        changed = thaw(present)
        changed["data"]["old_token"] = changed["data"]["token"]
        changed["data"]["token"] = encoded(self._token(text, config, moment_s))
        changed["metadata"]["annotations"][TOKEN_GENERATED] = timestamp(moment_s)
        return (yield from update(changed, SECRET))

    def _user_data(
        self, node_pool: Object, cluster: Object, place: str, config: str, token: str, ca_pem: str
    ) -> Object:
        text = f"{namespace_of(node_pool)}/{name_of(node_pool)}"
        endpoint = str(dig(cluster, "status", "ignitionEndpoint", default=""))
        headers = [
            {"name": "Authorization", "value": f"Bearer {encoded(token)}"},
            {"name": "NodePool", "value": text},
            {"name": "TargetConfigVersionHash", "value": config},
        ]
        document = {
            "ignition": {
                "version": "3.2.0",
                "config": {"merge": [{"source": f"https://{endpoint}/ignition", "httpHeaders": headers}]},
                "security": {
                    "tls": {"certificateAuthorities": [{"source": f"data:text/plain;base64,{encoded(ca_pem)}"}]}
                },
            }
        }
        values = {"value": orjson.dumps(document).decode(), "disableTemplating": encoded("true")}
        return secret(
            place,
            user_data_name(name_of(node_pool), config),
            values,
            annotations={NODE_POOL_ANNOTATION: text},
        )


def _delete(entry: Object) -> Program[None]:
    yield from delete(SECRET, namespace_of(entry), name_of(entry))
