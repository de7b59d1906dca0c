"""Views: what people and scripts see, by noun in the modules beside this one. Field names here are promises.

Nothing secret has a field: credentials never leave the vault this way, and an address is shown without its query.
"""

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    """What is shown; extra columns of a row are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")
