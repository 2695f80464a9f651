"""The import of hosted clusters as managed clusters, as the hypershift addon does it."""

from labsim.controllers.importer.component import Importer

__all__ = ["Importer"]
