"""The generated part of docs/events.md on thin webhooks: fields and an example."""

import orjson

from relay.docs.events import COLUMNS, fields
from relay.docs.markdown import rows
from relay.domain.endpoints import Payload
from relay.domain.payload import ThinData, ThinResult, shaped
from relay.domain.samples import sample_event

SHOWN = "purchase_order.updated"


def thin_part() -> str:
    """The fields of a thin webhook's `data`, and one example."""
    body = shaped(sample_event(SHOWN).model_dump_json().encode(), Payload.THIN)
    text = orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()
    return "\n".join(
        (
            "### Fields of a thin webhook's `data`\n",
            rows(COLUMNS, fields(ThinData)),
            "### Fields of a thin result's `data`\n",
            rows(COLUMNS, fields(ThinResult)),
            "### Example of a thin webhook\n",
            f"```json\n{text}\n```\n",
        )
    )
