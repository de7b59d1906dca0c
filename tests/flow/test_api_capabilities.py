"""What a system gives and takes, over the control API."""

from relay.connectors import CONNECTORS

SETTINGS = {"url": "http://127.0.0.1:1/rest", "tenant": "T1,D MG 01"}
CREDENTIALS = {"username": "relay", "password": "canary"}


async def test_a_connections_token_sees_what_its_system_takes_and_no_other(api):
    made = [
        await api.core.control.add_connection(
            customer="acme", kind="protheus", name=name, settings=SETTINGS, credentials=CREDENTIALS, check=False
        )
        for name in ("erp", "other")
    ]
    own, other = (f"/v1/connections/{each.connection.id}/capabilities" for each in made)
    seen = await api.get(own, key=made[0].token)
    assert seen.status_code == 200
    assert (seen.json()["connector"], len(seen.json()["fields"]) > 40) == ("protheus", True)
    assert (await api.get(other, key=made[0].token)).status_code == 404
    mapping = (await api.get(own.replace("capabilities", "mapping"), key=made[0].token)).json()
    assert [mapping["fields"], mapping["commands"]] == [seen.json()["fields"], seen.json()["commands"]]
    asked = await api.get(own, params={"sample": True})
    assert (asked.status_code, asked.json()["code"]) == (422, "unavailable")


async def test_a_system_is_shown_before_there_is_a_connection(api):
    for name in CONNECTORS:
        assert (await api.get(f"/v1/connectors/{name}/capabilities", key="read")).json()["connector"] == name
    assert (await api.get("/v1/connectors/sap/capabilities")).status_code == 400
