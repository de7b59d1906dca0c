"""TOTVS Protheus, writing: a customer's endpoint around MATA120, or the EAI message `Order`; reading it back as ever.

    command -> document (SC7's columns) -> codes looked up (SA2, SE4, SB1) -> body in the wrapper's shape -> one call
            -> the order once more: it must be as it was read
    answer  -> number | WriteRefused | in doubt -> find: the row whose mark is the order's own key

MATA120 has no key that makes two calls one: a create that was not answered is looked for by its mark, and never sent
again while it is open.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

from relay.connectors.kit.readers import text_of
from relay.connectors.protheus.answers import Asked, number_of
from relay.connectors.protheus.bodies import body_of, encoded, of_order, shown
from relay.connectors.protheus.cells import Cells, refused
from relay.connectors.protheus.codes import Codes
from relay.connectors.protheus.document import BEHIND_MARK, HEAD, Document, Drafting
from relay.connectors.protheus.mapping import BRANCH, NUMBER
from relay.connectors.protheus.query import GenericQuery, quoted
from relay.connectors.protheus.references import PRODUCTS, TERMS, References
from relay.connectors.protheus.refusing import Meanings
from relay.connectors.protheus.rows import Key, key_of, remote_id_of
from relay.connectors.protheus.settings import ProtheusSettings
from relay.connectors.protheus.wrapper import Route, Wrapper
from relay.connectors.protheus.writable import Table
from relay.domain.commands import MARK, Approve, Close, Command, Create, Reject, mark
from relay.domain.errors import UnexpectedReply, Unsupported
from relay.domain.mapping import MappingOverrides
from relay.domain.orders import PurchaseOrder
from relay.domain.results import Preview, Refusal, RefusalReason, WriteRefused
from relay.ports.writing import Prepared

Reading = Callable[[str], Awaitable[PurchaseOrder | None]]
"""One order as it is now, by its remote id."""
MOST_MARKED: Final = 100
"""Rows that are looked at for one mark."""


@dataclass(frozen=True, slots=True)
class Sending:
    """A call that is ready to go out."""

    method: str
    path: str
    content: bytes | None
    branch: str
    asked: Asked


class ProtheusWriter:
    """Writes to one Protheus; see `relay.ports.writing.Writer` for what the methods promise."""

    def __init__(
        self,
        settings: ProtheusSettings,
        wrapper: Wrapper,
        query: GenericQuery,
        mapping: MappingOverrides,
        read: Reading,
    ) -> None:
        self._settings = settings
        self._wrapper = wrapper
        self._query = query
        self._table = Table(settings, mapping)
        self._drafting = Drafting(settings, wrapper, Cells(wrapper, self._table, Codes(mapping)))
        self._read = read
        self._references = References(query, settings.absent_columns)

    @property
    def finds(self) -> bool:
        """Whether there is a column that keeps the mark."""
        return self._wrapper.mark is not None and self._wrapper.mark not in self._settings.absent_columns

    async def prepare(self, command: Command, order: PurchaseOrder | None) -> Prepared:
        """The call for `command`, its codes looked up; only reads. Raises WriteRefused."""
        route = self._wrapper.route(command.type)
        if route is None:
            raise Unsupported(f"the wrapper of this connection has no {command.type}: declare it in `writing`")
        if isinstance(command, Close | Approve | Reject):
            branch, _, number = command.remote_id.rpartition("|")
            body, places = of_order(branch, number, self._wrapper), dict[str, int]()
        else:
            document = await self._looked_up(self._drafting.document(command, order))
            branch, number, places = document.branch, document.number, document.places
            body = body_of(document, self._wrapper, self._settings.company)
        content = {**body, **route.fields, **_reason(route, command)} if route.method != "DELETE" else None
        path = _filled(route.path, branch, number)
        sent = None if content is None else encoded(content, self._wrapper.charset)
        if order is not None:
            await self._unchanged(order)
        asked = Asked(number, Meanings(self._table.paths, places, self._wrapper.refusals))
        preview = Preview(method=route.method, path=path, body=shown(content))
        return Prepared(preview, Sending(route.method, path, sent, branch, asked))

    async def write(self, prepared: Prepared) -> str:
        """Make the call, once. The order's remote id."""
        sending: Sending = prepared.inner
        reply = await self._query.send(sending.method, sending.path, sending.content, branch=sending.branch)
        number = number_of(reply, self._wrapper, sending.asked)
        return remote_id_of(("" if self._wrapper.shared else sending.branch.rstrip(), number))

    async def find(self, command: Create) -> str | None:
        """The order whose rows bear the command's mark, the newest of several; deleted rows do not count."""
        column, own = self._wrapper.mark, mark(command).rstrip()
        if column is None:
            return None
        # Both: a database may read signs of the key as its own, or count blanks at the end.
        where = f"SC7.C7_TIPO = 1 AND (SC7.{column} = {quoted(own)} OR SC7.{column} LIKE {quoted(f'{own}%')})"
        answer = await self._query.rows(
            "SC7", (BRANCH, NUMBER, column), where, order=(BRANCH, NUMBER), size=MOST_MARKED
        )
        if column in answer.hidden:
            raise Unsupported(f"the ERP keeps {column} back from relay's user: let it read the column of the mark")
        found = [key for row in answer.rows if (key := _marked(row, column, own))]
        if not found and answer.more:
            raise UnexpectedReply(f"more than {MOST_MARKED} rows of SC7 begin like the mark, and none of them bears it")
        return remote_id_of(max(found, key=lambda key: key[1])) if found else None

    async def _unchanged(self, seen: PurchaseOrder) -> None:
        """The last thing before the write: the ERP itself guards nothing. Raises WriteRefused."""
        now = await self._read(seen.remote_id)
        if now is None or now.remote_version != seen.remote_version:
            raise refused(
                RefusalReason.CONFLICT,
                "remote_id",
                "the order was changed in the ERP after it was read",
                "Look at the order again, and send a new command",
            )

    async def _looked_up(self, document: Document) -> Document:
        """The document with its vendor's store. Raises WriteRefused with all codes that cannot be used."""
        refusals: list[Refusal] = []
        header = dict(document.header)
        if "C7_FORNECE" in document.said or "C7_LOJA" in document.said:
            store = str(header["C7_LOJA"]) if "C7_LOJA" in document.said else None
            found, wrong = await self._references.vendor(str(header.get("C7_FORNECE", "")), store)
            refusals += wrong
            header |= {"C7_LOJA": found} if found else {}
        if "C7_COND" in document.said:
            refusals += await self._references.listed(TERMS, {str(header["C7_COND"]): ["payment_terms.code"]})
        products: dict[str, list[str]] = {}
        for line in document.lines:
            if "C7_PRODUTO" in line.said:
                products.setdefault(str(line.columns["C7_PRODUTO"]), []).append(f"lines[{line.place}].item.code")
        if products:
            refusals += await self._references.listed(PRODUCTS, products)
        if refusals:
            raise WriteRefused(refusals)
        # In the routine's own order: it fills in what follows from a column when the column comes.
        return replace(document, header={name: header[name] for name in HEAD if name in header})


def _reason(route: Route, command: Command) -> dict[str, Any]:
    told = getattr(command, "reason", None)
    return {route.reason: told} if route.reason and told else {}


def _filled(path: str, branch: str, number: str) -> str:
    for name, value in (("branch", branch), ("number", number), ("remote_id", f"{branch}|{number}")):
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    return path


def _marked(row: Any, column: str, own: str) -> Key | None:
    """The order of a row that bears the mark, alone or before its notes."""
    key, told = key_of(row), row.get(column) if isinstance(row, dict) else None
    text = text_of(told) or "" if isinstance(told, str) else ""
    if own.startswith(MARK):
        # Relay's own keys are in small letters only: an ERP that writes all text large has not made another of them.
        text, own = text.casefold(), own.casefold()
    return key if key and (text == own or text.startswith(f"{own}{BEHIND_MARK}".rstrip() + " ")) else None
