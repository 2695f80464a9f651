"""Conversion between the versions of a custom resource: what the webhook of its definition would answer.

A definition whose strategy is None has versions that differ in nothing but their names and schemas. One whose strategy
is Webhook is converted by a function in the process, where the server was given one for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from labsim.kube.errors import ApiError
from labsim.model.kinds import Kind
from labsim.model.objects import Object

# The definition of a (group, kind), None where there is none: a webhook may ask its API server.
DefinitionOf = Callable[[str, str], Object | None]
# A conversion takes an object and the apiVersion to give it, and makes another object; of metadata it may change labels
# and annotations alone. ValueError says why an object cannot be converted. What it is given it does not change.
Conversion = Callable[[Object, str, DefinitionOf], Object]
Conversions = Mapping[str, Conversion]  # by the name of the definition


def bound_conversion(
    crd: Object, conversions: Conversions, definition_of: DefinitionOf
) -> Callable[[Object, Kind], Object] | None:
    """How objects of a definition get from one version to another; None where only the name of the version changes."""
    convert = conversions.get(crd["metadata"]["name"])
    if convert is None or (crd["spec"].get("conversion") or {}).get("strategy") != "Webhook":
        return None

    def converted(obj: Object, kind: Kind) -> Object:
        version = obj["apiVersion"]
        if version == kind.api_version:
            return obj
        try:
            return convert(obj, kind.api_version, definition_of)
        except (ValueError, TypeError, AttributeError, KeyError) as problem:  # fields of types that Go would not read
            text = f"conversion webhook for {version}, Kind={kind.kind} failed: {problem}"
            raise ApiError(500, "", text) from problem

    return converted
