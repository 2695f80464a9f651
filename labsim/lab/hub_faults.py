"""The commands about a hub's clients: who they are, and the faults that meet them."""

from __future__ import annotations

from typing import Any

from labsim.errors import LabError, NothingSelected, UsageError
from labsim.hub.embedded.client_faults import EVERYBODY, Cut, LostBy, What, Who
from labsim.hub.embedded.clients import HubClients
from labsim.kube.http import KubeHttp
from labsim.kube.users import ADMIN
from labsim.lab.getting import resource_named

CUT = "cut"
CLEAR = "clear"
LIST = "list"
CLIENTS = "clients"


def carry_hub_command(clients: HubClients | None, command: dict[str, Any]) -> list[Any]:
    """Carry out one command: rows for `list` and `clients`, lines for a person otherwise. Raises LabsimError.

    fault: one of What, or cut, clear, list, clients; who: `program`, `user`, `connection`, `kind`; and what belongs to
    the fault: `seconds`, `revision`, `how`, `count`, `numbers`.
    """
    if clients is None:
        hint = "faults need the embedded hub: leave --hub out"
        raise LabError("the hub of this lab is a cluster of its own: its clients do not come by here", hint=hint)
    fault = str(command.get("fault"))
    if fault in (LIST, CLIENTS):
        return [found.row() for found in clients.faults()] if fault == LIST else clients.rows()
    if fault == CLEAR:
        cleared = clients.clear_faults([int(number) for number in command.get("numbers") or ()])
        return [f"fault {found.number} is off" for found in cleared] or ["no fault is on"]
    who = _who(clients, command.get("who") or {})
    if fault == CUT:
        return [_cut(clients, who, Cut(_known("a cut", str(command.get("how") or Cut.END), Cut)))]
    what = What(_known("a fault", fault, What))
    made = clients.add_fault(what, who, **_details(clients, what, command))
    row = made.row()
    return [f"fault {made.number} is on: {row['fault']} {row['details']}; it meets {row['who']}"]


def _who(clients: HubClients, given: dict[str, Any]) -> Who:
    kind = str(given.get("kind") or "")
    if kind:
        kind = resource_named(KubeHttp(clients.server, authenticate=lambda request: ADMIN), kind).kind.qualified
    named = {name: str(given[name]) for name in ("program", "user", "connection") if given.get(name)}
    if not named:
        hint = f"say whom: --program, --user or --connection ({EVERYBODY} is everybody); labsim hub clients lists them"
        raise UsageError("a fault needs to know whom it meets", hint=hint)
    return Who(kind=kind, **named)


def _cut(clients: HubClients, who: Who, how: Cut) -> str:
    count = clients.cut(who, how)
    if not count:
        raise NothingSelected(f"no open watch is that of {who}", hint="labsim hub clients lists who watches what")
    return f"{count} watch(es) cut: {how.value}"


def _details(clients: HubClients, what: What, command: dict[str, Any]) -> dict[str, Any]:
    if what in (What.DELAY, What.REORDER):
        return {"seconds": float(command["seconds"])}
    if what is What.FREEZE:
        return _revision(clients, command.get("revision"))
    count = int(command.get("count") or 1)
    if what is What.LOSE_WRITE and not command.get("dataLoss"):
        hint = "Kubernetes never does this while its etcd holds; --data-loss says that it shall not"
        raise UsageError("an acknowledged write is lost only where data loss is allowed", hint=hint)
    how = _known("a loss by", str(command.get("how") or LostBy.RESET), LostBy) if what is What.LOSE_ANSWER else ""
    return {"left": count, "how": how}


def _revision(clients: HubClients, wanted: Any) -> dict[str, Any]:
    if not wanted:
        return {}
    oldest, newest = clients.server.store.oldest, clients.server.revision
    if not oldest <= int(wanted) <= newest:
        raise UsageError(
            f"a cache cannot stop at revision {wanted}", hint=f"from {oldest} to {newest}, the present one"
        )
    return {"revision": int(wanted)}


def _known(what: str, value: str, words: type[What] | type[Cut] | type[LostBy]) -> str:
    known = [word.value for word in words]
    if value not in known:
        raise UsageError(f"{what} {value!r} is not known", hint=f"one of: {', '.join(known)}")
    return value
