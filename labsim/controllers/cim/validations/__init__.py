"""The host validations of host-lifecycle 2.6: ids, categories, gates and exact messages. Pure."""

from labsim.controllers.cim.validations.evaluate import as_document, evaluate

__all__ = ["as_document", "evaluate"]
