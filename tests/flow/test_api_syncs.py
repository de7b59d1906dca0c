"""Syncs over the control API of a running worker, with an operator's key and with a connection's token."""

import pytest

from relay.demo.protheus import NewLine
from relay.demo.protheus_http import Options, simulated_protheus
from tests.flow.test_connection_life import PASSWORD, control_api

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def erp():
    async with simulated_protheus(Options(password=PASSWORD)) as running:
        running.seed(5)
        yield running


async def test_a_connection_is_added_with_its_window_and_read_by_its_own_token(line, erp):
    async with control_api(line) as desk:
        schedule = {"slowest": "PT1S", "hours": {"closed": ["Sun 03:00-03:15"], "zone": "America/Sao_Paulo"}}
        added = await desk.add(erp, history=None, announce="silent", schedule=schedule)
        connection, token = added["connection"], added["token"]
        path = f"/v1/connections/{connection['id']}"
        await desk.until(path, lambda seen: seen["synced"], "the first sync")
        seen = await desk.call("GET", path)
        assert (seen["counts"]["orders"], seen["counts"]["events"], seen["history_from"]) == (5, 0, None)
        assert seen["schedule"]["hours"] == {
            "open": [],
            "closed": ["Sun 03:00-03:15"],
            "zone": "America/Sao_Paulo",
        }

        erp.create_order([NewLine("PAR-M8-30", 4, 1.25)])
        found = await desk.call("POST", f"{path}/sync", {"wait": "PT30S"}, key=token)
        assert (found["kind"], found["state"]) == ("poll", "done")

        begun = await desk.call("POST", f"{path}/resyncs", {"announce": "snapshot"}, key=token, status=201)
        one = f"{path}/syncs/{begun['id']}"
        await desk.until(one, lambda seen: seen["ended_at"], "the re-sync")
        ended = await desk.call("GET", one, key=token)
        assert (ended["state"], ended["read"], ended["told"], ended["total"]) == ("done", 6, 6, 6)
        await desk.call("POST", f"{one}/cancel", key=token, status=400)

        first = await desk.call("GET", f"{path}/syncs?limit=1", key=token)
        rest = await desk.call("GET", f"{path}/syncs?after={first['next']}", key=token)
        kinds = [each["kind"] for each in (*first["items"], *rest["items"])]
        assert (kinds, rest["next"]) == (["resync", "poll", "first"], None)

        everything = (await desk.call("GET", "/v1/syncs"))["items"]
        assert [each["id"] for each in everything] == [each["id"] for each in (*first["items"], *rest["items"])]
        await desk.call("GET", "/v1/syncs", key=token, status=404)
        await desk.call("POST", f"/v1/syncs/{begun['id']}/cancel", status=400)

        changed = await desk.call("PATCH", path, {"schedule": {"compare_every": None}})
        assert (changed["schedule"]["compare_every"], changed["schedule"]["slowest"]) == (None, "PT1S")


async def test_what_cannot_be_read_or_belongs_to_another_is_refused(line, erp):
    async with control_api(line) as desk:
        mine = (await desk.add(erp, name="mine"))["connection"]["id"]
        other = (await desk.add(erp, name="other"))["connection"]["id"]
        theirs = (await desk.call("GET", f"/v1/connections/{other}/syncs"))["items"][0]["id"]
        await desk.call("GET", f"/v1/connections/{mine}/syncs/{theirs}", status=404)
        await desk.call("POST", f"/v1/connections/{mine}/syncs/{theirs}/cancel", status=404)
        await desk.call("POST", f"/v1/connections/{mine}/pause")
        for body in ({}, None):
            told = await desk.call("POST", f"/v1/connections/{mine}/sync", body, status=400)
            assert "paused" in told["detail"]
        await desk.call("POST", f"/v1/connections/{mine}/sync", {"wait": "PT2M"}, status=400)
        await desk.call("POST", f"/v1/connections/{mine}/resyncs", {"announce": "loudly"}, status=400)
        await desk.call("GET", f"/v1/connections/{mine}/syncs?after=nonsense", status=400)
        await desk.call("PATCH", f"/v1/connections/{mine}", {"schedule": {"hours": {"open": ["soon"]}}}, status=400)
        closed = {"schedule": {"hours": {"closed": ["00:00-24:00"]}}}
        told = await desk.call("PATCH", f"/v1/connections/{mine}", closed, status=400)
        assert "never be asked" in told["detail"]
