"""The base of every section of a config, and the names that are safe as files."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from evaluation.files import is_file_name


def _checked(name: str) -> str:
    if not is_file_name(name):
        raise ValueError("must not be a name that Windows keeps for itself, nor end in a dot")
    return name


Name = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64), AfterValidator(_checked)
]
"""A name that is safe as a folder's or a file's, on any system."""


class Section(BaseModel):
    """Base of every section: frozen, unknown keys refused, field docstrings kept."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
