"""What the parts of a scenario file are made of: strict mappings, and values with their units."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from labsim.model.quantities import parse_duration_s, parse_size_bytes
from labsim.model.states import AGENT_STATES

_DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"


def _duration(value: Any) -> float:
    if isinstance(value, str):
        return parse_duration_s(value)
    raise ValueError(f"{value!r} is no duration: write a number and a unit, for example 15m")


def _size(value: Any) -> int:
    if isinstance(value, str):
        return parse_size_bytes(value)
    raise ValueError(f"{value!r} is no size: write a number and a unit, for example 16GiB")


def _state(value: Any) -> str:
    if value in AGENT_STATES:
        return str(value)
    near = difflib.get_close_matches(str(value), AGENT_STATES, 1, 0.5)
    raise ValueError(f"{value!r} is no agent state" + (f"; did you mean {near[0]}?" if near else ""))


Duration = Annotated[float, BeforeValidator(_duration), WithJsonSchema({"type": "string", "examples": ["15m", "90s"]})]
Size = Annotated[int, BeforeValidator(_size), WithJsonSchema({"type": "string", "examples": ["16GiB", "120GB"]})]
State = Annotated[str, BeforeValidator(_state), WithJsonSchema({"type": "string", "enum": list(AGENT_STATES)})]
Name = Annotated[str, Field(pattern=_DNS_LABEL)]
Player = Literal["simulated", "external"]


class Part(BaseModel):
    """A part of the file: unknown fields are mistakes, and types are not guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True, frozen=True, defer_build=True)
