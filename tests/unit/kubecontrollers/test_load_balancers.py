"""Services of type LoadBalancer: an address each from the pool, and none where it is empty."""

from __future__ import annotations

from labsim.controllers.kube.component import KubeControllers
from labsim.model.kinds import NAMESPACE, SERVICE
from labsim.model.objects import Object, dig, new
from labsim.world.world import World

POOL = ("192.0.2.200", "192.0.2.201")


def balanced(name: str) -> Object:
    ports = [{"port": 6443}]
    return new(SERVICE, "shop", name, spec={"type": "LoadBalancer", "ports": ports, "selector": {"app": name}})


def addresses(world: World, *names: str) -> list[str]:
    services = [world.hub.get(SERVICE, "shop", name) for name in names]
    return [dig(service, "status", "loadBalancer", "ingress", default=[{}])[0].get("ip", "") for service in services]


def world_with(*names: str) -> World:
    world = World(seed=1)
    world.add(KubeControllers(load_balancers=POOL))
    world.hub.create(new(NAMESPACE, None, "shop"), NAMESPACE)
    for name in names:
        world.hub.create(balanced(name), SERVICE)
    world.run_for(60)
    return world


def test_each_service_has_an_address_of_its_own_until_the_pool_is_empty() -> None:
    found = addresses(world_with("one", "two", "three"), "one", "two", "three")
    assert sorted(found) == ["", *POOL]


def test_an_address_that_is_free_again_goes_to_whoever_waits() -> None:
    world = world_with("one", "two", "three")
    (waiting,) = [name for name in ("one", "two", "three") if addresses(world, name) == [""]]
    (leaving, staying) = [name for name in ("one", "two", "three") if name != waiting]
    left = addresses(world, leaving)
    world.hub.delete(SERVICE, "shop", leaving)
    world.run_for(180)
    assert addresses(world, waiting) == left
    assert addresses(world, staying) != left


def test_other_services_get_none() -> None:
    world = world_with()
    world.hub.create(new(SERVICE, "shop", "plain", spec={"ports": [{"port": 80}], "selector": {"a": "b"}}), SERVICE)
    world.run_for(60)
    assert addresses(world, "plain") == [""]
