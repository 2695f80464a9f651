"""The one place where libvirt is called: opened when first needed, renewed once when lost, errors translated."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from labsim.errors import LabError
from labsim.machines.libvirt.errors import from_libvirt, not_installed
from labsim.machines.libvirt.session import SESSION_URI, session_uri

T = TypeVar("T")


def load_libvirt() -> ModuleType:
    """The binding, imported when a hypervisor is really wanted. Its habit of printing errors itself is turned off."""
    try:
        import libvirt
    except (ImportError, OSError) as error:
        raise not_installed(error) from error
    module: ModuleType = libvirt
    module.registerErrorHandler(_say_nothing, None)
    return module


def _say_nothing(context: object, error: object) -> None:
    """Errors are raised, translated and shown once."""


class Connection:
    """A connection to the hypervisor at `uri`; the default is the caller's own session."""

    def __init__(self, uri: str = SESSION_URI, *, load: Callable[[], ModuleType] = load_libvirt) -> None:
        self.uri = uri
        self._load = load
        self._libvirt: ModuleType | None = None
        self._connection: Any = None  # a libvirt.virConnect; the binding carries no types
        self._lock = threading.RLock()
        self._closed = False

    @property
    def libvirt(self) -> ModuleType:
        if self._libvirt is None:
            self._libvirt = self._load()
        return self._libvirt

    def call(self, ask: Callable[[Any], T]) -> T:
        """`ask(connection)`, translated. When the connection was lost it is renewed once and `ask` is said again,
        so `ask` must be something that may be said twice."""
        with self._lock:
            if self._closed:
                raise LabError("the driver has been closed", hint="open the lab again")
            try:
                return ask(self._opened())
            except self.libvirt.libvirtError as error:
                if not self._is_lost(error):
                    raise from_libvirt(error) from error
            self._drop()
            try:
                return ask(self._opened())
            except self.libvirt.libvirtError as error:
                raise from_libvirt(error) from error

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._drop()

    def _opened(self) -> Any:
        if self._connection is None:
            libvirt = self.libvirt
            uri = session_uri() if self.uri == SESSION_URI else self.uri
            try:
                self._connection = libvirt.open(uri)
            except libvirt.libvirtError as error:
                raise from_libvirt(error) from error
        return self._connection

    def _is_lost(self, error: Exception) -> bool:
        """By what the error says, or because the connection itself says that it is dead."""
        if from_libvirt(error).rule.connection_lost:
            return True
        try:
            return self._connection is not None and not self._connection.isAlive()
        except self.libvirt.libvirtError:
            return True

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except self.libvirt.libvirtError:
                return  # it was lost: there is nothing left to close
