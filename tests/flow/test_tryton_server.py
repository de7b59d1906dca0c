"""The real Tryton and its user's hands: what the other tests and the demo stand on."""

import asyncio
import os
import signal
import sys
from datetime import date
from pathlib import Path

import httpx
import pytest

from relay.demo import tryton_install
from relay.demo.tryton import Buyer, ErpSaidNo, install, tryton
from relay.domain.errors import Unavailable, UserError

pytestmark = [pytest.mark.slow, pytest.mark.tryton, pytest.mark.timeout(300)]

TWO_LINES = [("PAR-M8", 100, "1.2500"), ("ROL-6204", 4, "37.90")]


async def state(erp, order):
    return (await erp.buyer.read(order, "state"))["state"]


async def stamp(erp, order):
    found = await erp.buyer.read(order, "write_date", "create_date")
    return found["write_date"] or found["create_date"]


async def test_an_order_lives_from_draft_to_received(tryton_erp):
    buyer = tryton_erp.buyer
    order = await buyer.create_order(TWO_LINES, vendor="F002", reference="WEB-1")
    assert await state(tryton_erp, order) == "draft"
    await buyer.quote(order)
    found = await buyer.read(order, "number", "state", "total_amount", "currency.code", "party.name", "warehouse.code")
    assert found["number"]
    assert found["state"] == "quotation"
    assert str(found["total_amount"]) == "304.26"
    assert found["currency."]["code"] == "BRL"
    assert found["party."]["name"] == "Aços Itaú & Irmãos Comércio S.A."
    await buyer.confirm(order)
    await buyer.receive(order, "0.6")
    found = await buyer.read(order, "state", "shipment_state", "invoice_state")
    assert (found["state"], found["shipment_state"], found["invoice_state"]) == (
        "processing",
        "partially shipped",
        "pending",
    )
    assert [line["moves_progress"] for line in await buyer.lines(order)] == [0.6, 0.5]
    await buyer.receive(order)
    assert (await buyer.read(order, "shipment_state"))["shipment_state"] == "received"
    await buyer.post_invoice(order, date(2026, 11, 22))
    assert (await buyer.read(order, "invoice_state"))["invoice_state"] == "awaiting payment"


async def test_a_second_part_receipt_leaves_the_headers_stamp_alone(tryton_erp):
    order = await tryton_erp.buyer.order_now(TWO_LINES)
    await tryton_erp.buyer.receive(order, "0.5")
    before = await stamp(tryton_erp, order)
    await tryton_erp.buyer.receive(order, "0.5")
    assert [line["moves_progress"] for line in await tryton_erp.buyer.lines(order)] == [0.75, 0.75]
    assert await stamp(tryton_erp, order) == before


async def test_lines_change_come_and_go_behind_the_headers_back(tryton_erp):
    buyer = tryton_erp.buyer
    order = await buyer.create_order(TWO_LINES)
    before = await stamp(tryton_erp, order)
    first, second = await buyer.lines(order)
    await buyer.change_line(first["id"], quantity=7.0)
    added = await buyer.add_line(order, ("CHA-A36", "12.5", "7.85"))
    await buyer.delete_line(second["id"])
    assert [(line["id"], line["code"], line["quantity"]) for line in await buyer.lines(order)] == [
        (first["id"], "PAR-M8", 7.0),
        (added, "CHA-A36", 12.5),
    ]
    assert await stamp(tryton_erp, order) == before


async def test_a_header_changes_is_cancelled_reopened_and_deleted(tryton_erp):
    buyer = tryton_erp.buyer
    order = await buyer.create_order(TWO_LINES)
    await buyer.set_reference(order, "PC-77")
    await buyer.set_warehouse(order, "MG")
    found = await buyer.read(order, "reference", "warehouse.name", "write_date")
    assert (found["reference"], found["warehouse."]["name"]) == ("PC-77", "Filial Minas")
    assert found["write_date"]
    await buyer.quote(order)
    await buyer.to_draft(order)
    await buyer.cancel(order)
    assert await state(tryton_erp, order) == "cancelled"
    await buyer.to_draft(order)
    await buyer.delete(order)
    assert await buyer.call("model.purchase.purchase.search", [["id", "=", order]], 0, None, None) == []


async def test_a_vendor_is_renamed_without_touching_its_orders(tryton_erp):
    order = await tryton_erp.buyer.create_order(TWO_LINES, vendor="F003")
    before = await stamp(tryton_erp, order)
    await tryton_erp.buyer.rename_vendor("F003", "Química Nova Ltda")
    assert (await tryton_erp.buyer.read(order, "party.name"))["party."]["name"] == "Química Nova Ltda"
    assert await stamp(tryton_erp, order) == before


async def test_tryton_says_no_in_its_own_words(tryton_erp):
    order = await tryton_erp.buyer.order_now(TWO_LINES)
    with pytest.raises(ErpSaidNo, match="not allowed to modify"):
        await tryton_erp.buyer.set_warehouse(order, "MG")
    with pytest.raises(ErpSaidNo, match=r"0 records of product\.product have the code NOPE"):
        await tryton_erp.buyer.create_order([("NOPE", 1, "1")])


async def test_orders_and_sessions_survive_a_restart_on_the_same_address(tryton_erp):
    order = await tryton_erp.buyer.create_order(TWO_LINES)
    url, pid = tryton_erp.url, tryton_erp.pid
    await tryton_erp.stop()
    with pytest.raises(httpx.ConnectError):
        await tryton_erp.buyer.read(order, "state")
    await tryton_erp.start()
    assert (tryton_erp.url, await state(tryton_erp, order)) == (url, "draft")
    assert tryton_erp.pid != pid


async def test_a_second_start_on_the_same_data_finds_what_was_there(tryton_installation, tmp_path):
    async with tryton(tryton_installation, tmp_path) as erp:
        order = await erp.buyer.create_order(TWO_LINES)
    async with tryton(tryton_installation, tmp_path) as erp:
        assert await state(erp, order) == "draft"


async def test_the_reader_relay_uses_sees_orders_and_a_new_password_ends_its_sessions(tryton_erp):
    order = await tryton_erp.buyer.order_now(TWO_LINES)
    async with httpx.AsyncClient(base_url=tryton_erp.url) as client:
        reader = Buyer(client, tryton_erp.database, tryton_erp.username, tryton_erp.password)
        assert (await reader.read(order, "number"))["number"]
        await tryton_erp.buyer.set_password(tryton_erp.username, "outra-senha-1")
        with pytest.raises(ErpSaidNo, match="HTTP 401"):
            await reader.read(order, "number")


async def test_a_reader_is_answered_while_others_write(tryton_erp):
    orders = [await tryton_erp.buyer.create_order(TWO_LINES) for _ in range(4)]
    writing = asyncio.gather(*map(tryton_erp.buyer.quote, orders))
    async with httpx.AsyncClient(base_url=tryton_erp.url) as client:
        reader = Buyer(client, tryton_erp.database, "admin", tryton_erp.buyer.password)
        reads = 0
        while not writing.done():
            found = await reader.call(
                "model.purchase.purchase.search_read", [], 0, 100, None, ["number", "lines.quantity"]
            )
            reads += len(found)
    await writing
    assert reads >= len(orders)
    assert {await state(tryton_erp, order) for order in orders} == {"quotation"}


async def test_a_server_that_cannot_start_names_its_log(tryton_installation, tmp_path):
    (tmp_path / "erp.sqlite").write_bytes(b"no database at all, and rather longer than a header" * 100)
    with pytest.raises(Unavailable, match=r"tryton\.log"):
        async with tryton(tryton_installation, tmp_path):
            pass
    assert "DatabaseError" in (tmp_path / "tryton.log").read_text()


async def test_the_server_dies_with_a_killed_parent(tryton_installation, tmp_path):
    program = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from relay.demo.tryton import tryton\n"
        "async def main():\n"
        "    async with tryton(Path(sys.argv[1]), Path(sys.argv[2])) as erp:\n"
        "        print(erp.port, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(tryton_installation), str(tmp_path)),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )
    port = int(await parent.stdout.readline())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    # The open connection ends when the server's process does.
    assert await asyncio.wait_for(reader.read(), timeout=30) == b""
    writer.close()


async def test_a_half_made_installation_is_made_again_and_a_failed_one_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(tryton_install, "PACKAGES", ("relay-no-such-package @ file:///nowhere/at-all.whl",))
    with pytest.raises(UserError, match=r"Tryton cannot be installed: .*check the network"):
        await install(tmp_path)
    (home,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert not (home / "made").exists()
    (home / "left-over").touch()
    with pytest.raises(UserError):
        await install(tmp_path)
    assert not (home / "left-over").exists()


async def test_two_installs_at_once_make_one(tryton_installation, tmp_path):
    said = []
    try:
        first, second = await asyncio.gather(install(tmp_path, said.append), install(tmp_path, said.append))
    except UserError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    assert first == second
    assert said == [
        "Installing Tryton 8.2 into its own environment",
        "Creating Tryton's database (about half a minute)",
    ]
    assert os.access(first.python, os.X_OK)
