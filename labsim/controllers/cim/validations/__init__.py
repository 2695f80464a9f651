"""The host validations of host-lifecycle 2.6: ids, categories, gates and exact messages. Pure."""

from labsim.controllers.cim.validations.evaluate import evaluate, text_of

__all__ = ["evaluate", "text_of"]
