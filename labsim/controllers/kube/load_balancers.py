"""What gives Services of type LoadBalancer their addresses: a pool, as MetalLB has one on a hub without a cloud."""

from __future__ import annotations

from collections.abc import Sequence

from labsim.controllers.runtime.effects import (
    DONE,
    Controller,
    Key,
    Program,
    Result,
    Watch,
    get,
    list_all,
    own_key,
    patch,
)
from labsim.kube.errors import ApiError
from labsim.model.kinds import SERVICE
from labsim.model.objects import Object, dig, is_deleting, name_of, namespace_of


class LoadBalancers:
    """Each Service gets an address that no other one has; with none left it stays pending, and says nothing."""

    def __init__(self, pool: Sequence[str]) -> None:
        self._pool = tuple(pool)

    def controller(self) -> Controller:
        return Controller(
            name="load-balancers", reconcile=self.reconcile, watches=(Watch(SERVICE, own_key, when=_waits),)
        )

    def reconcile(self, key: Key) -> Program[Result]:
        service = yield from get(SERVICE, key.namespace, key.name)
        if service is None or not _is_pending(service):
            return DONE
        taken = {
            address
            for other in (yield from list_all(SERVICE, live=True))
            if (namespace_of(other), name_of(other)) != (key.namespace, key.name)
            for address in _addresses(other)
        }
        free = next((address for address in self._pool if address not in taken), None)
        if free is None:
            return Result(60.0)
        body = {"status": {"loadBalancer": {"ingress": [{"ip": free}]}}}
        try:
            yield from patch(SERVICE, key.namespace, key.name, body, subresource="status")
        except ApiError as error:
            if error.code != 404:
                raise
        return DONE


def _waits(before: Object | None, after: Object | None) -> bool:
    del before
    return after is not None and _is_pending(after)


def _is_pending(service: Object) -> bool:
    return dig(service, "spec", "type") == "LoadBalancer" and not is_deleting(service) and not _addresses(service)


def _addresses(service: Object) -> list[str]:
    return [entry["ip"] for entry in dig(service, "status", "loadBalancer", "ingress", default=()) if entry.get("ip")]
