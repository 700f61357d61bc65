"""What every section of the settings shares."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from lakeinterp.terms import digest

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def digest(self, *, exclude: set[str] | None = None) -> str:
        """Digest of the settings as they stand, without the named ones."""
        return digest(self.model_dump(mode="json", exclude=exclude))
