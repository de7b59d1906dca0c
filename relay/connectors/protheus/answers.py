"""What became of a call, from its answer: done, with the order's number; refused by the ERP itself; or in doubt.

2xx JSON that says so -> done        a recognised no, whatever the status -> WriteRefused
429, 401, 403, no such path -> nothing was written        everything else raises: it may have been
"""

from dataclasses import dataclass
from typing import Any, Final

import httpx

from relay.connectors.kit.replies import checked, parsed, text_of, words
from relay.connectors.protheus.refusing import Meanings, kept, refusals_in, refused
from relay.connectors.protheus.wrapper import NUMBER_AT, STATUS_AT, Wrapper, at
from relay.domain.errors import UnexpectedReply
from relay.domain.results import WriteRefused

_MESSAGES: Final = ("errorMessage", "message", "Mensagem", "mensagem", "Message", "error_description", "error")
_DETAILS: Final = ("detailedMessage", "DetailedMessage", "detalhe", "details")
_CODES: Final = ("Status", "status", "code", "Code", "errorCode", "statusCode")
_UNJUDGED: Final = frozenset({401, 403, 429})
"""These are about who asks and how often, never about what was asked."""
_NO_CONTENT: Final = 204
_LONGEST_NUMBER: Final = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked: the number of the order, or none of a new one, and what names in a refusal mean."""

    number: str
    meanings: Meanings


def number_of(reply: httpx.Response, wrapper: Wrapper, asked: Asked) -> str:
    """The number of the order that was written. Raises WriteRefused, or what leaves its outcome open."""
    if reply.status_code == _NO_CONTENT and asked.number:
        return asked.number
    content = _json(reply)
    said = _said(content, wrapper)
    if reply.status_code not in _UNJUDGED and (not reply.is_success or not _done(content, wrapper)):
        _judge(reply, content, said, asked.meanings)
    checked(reply, said=words(said))
    if not isinstance(content, dict):
        parsed(text_of(reply))
        raise UnexpectedReply("the wrapper answered with other JSON than an object")
    if not _done(content, wrapper):
        raise UnexpectedReply(f"the wrapper does not say that it was done: {words(said)}")
    return _number(content, wrapper, asked.number)


def _judge(reply: httpx.Response, content: Any, said: str, meanings: Meanings) -> None:
    """Raises WriteRefused when it is the ERP's own no."""
    if found := refusals_in(said, meanings):
        raise WriteRefused(found, said=kept(said))
    if isinstance(content, dict) and said and _client_error(reply, content):
        raise WriteRefused(refused(said, meanings), said=kept(said))


def _client_error(reply: httpx.Response, content: dict[str, Any]) -> bool:
    """Whether the answer calls the request itself wrong: 4xx, in the status line or in a body that came with 200."""
    status = reply.status_code
    if reply.is_success:
        status = next((code for name in _CODES if (code := _code(content.get(name)))), 0)
    return status in {400, 409, 412, 422}


def _done(content: Any, wrapper: Wrapper) -> bool:
    """Whether the body says that it was done; one that says nothing of it does."""
    told = at(content, wrapper.answer.status or STATUS_AT[wrapper.shape])
    if told is not None:
        return str(told).strip().casefold() in {each.casefold() for each in wrapper.answer.done}
    if wrapper.answer.status:
        return False
    codes = [_code(content.get(name)) for name in _CODES] if isinstance(content, dict) else []
    return not any(code >= 400 for code in codes)  # noqa: PLR2004 - status codes are their own names


def _code(value: Any) -> int:
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) == 3 else 0  # noqa: PLR2004 - digits


def _number(content: dict[str, Any], wrapper: Wrapper, number: str) -> str:
    told = at(content, wrapper.answer.number or NUMBER_AT[wrapper.shape])
    # FILIAL|C7_NUM, or EMPRESA|FILIAL|C7_NUM, in the message's list of keys.
    found = str(told).rpartition("|")[2].strip() if isinstance(told, (str, int)) and not isinstance(told, bool) else ""
    if number:
        if found and found != number:
            raise UnexpectedReply("the wrapper answered with another order's number")
        return number
    if not found or len(found) > _LONGEST_NUMBER or not found.isprintable():
        raise UnexpectedReply("the wrapper answered without the new order's number")
    return found


def _json(reply: httpx.Response) -> Any:
    try:
        return parsed(text_of(reply))
    except UnexpectedReply:
        return None


def _said(content: Any, wrapper: Wrapper) -> str:
    """All the words that an answer holds where words are."""
    own = [at(content, steps) for steps in wrapper.answer.said]
    if isinstance(content, dict):
        own += [next((content[name] for name in names if content.get(name)), None) for names in (_MESSAGES, _DETAILS)]
    texts = [each for each in own if isinstance(each, str) and each.strip()]
    return "\n".join(dict.fromkeys(texts))
