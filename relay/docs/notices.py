"""The generated part of docs/events.md on notices: headers, fields, and an example of every type."""

from collections.abc import Iterator

import orjson

from relay.docs.events import COLUMNS, fields
from relay.docs.markdown import code, rows
from relay.domain.notice_samples import sample_notice
from relay.domain.notices import Notice, NoticeData, NoticeType, notice_event, notice_message


def notices_part() -> str:
    """Headers of a message, the fields of a notice, and one example per type."""
    return "\n".join(
        (
            "### Headers of a notice\n",
            rows(("header", "example"), _headers(sample_notice(NoticeType.ENDPOINT_FAILING))),
            "### Fields of a notice's `data`\n",
            rows(COLUMNS, fields(NoticeData)),
            "### Examples of notices\n",
            *map(_example, NoticeType),
        )
    )


def _headers(notice: Notice) -> Iterator[tuple[str, str]]:
    message = notice_message(notice, "")
    yield "(the message's key)", code(message.key.decode())
    yield from ((code(name), code((value or b"").decode())) for name, value in message.headers)


def _example(kind: NoticeType) -> str:
    body = orjson.loads(notice_event(sample_notice(kind)).model_dump_json())
    text = orjson.dumps(body, option=orjson.OPT_INDENT_2).decode()
    return f"#### `{kind}`\n\n```json\n{text}\n```\n"
