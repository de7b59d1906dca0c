"""The verify stage on virtual time: it asks until the endpoint has proved itself, and says what is wrong meanwhile."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

import orjson
import pytest

from relay.domain.deliveries import Answer, Wish
from relay.domain.endpoints import EndpointOptions, Verification
from relay.domain.errors import LeaseLost
from relay.domain.signing import verify
from relay.domain.verification import Permission, proof
from relay.stages.verify import Verify
from relay.wire.introduced import Introduced
from tests.fakes import LEASE, START, clock, endpoint, run, running, until

SECRET = b"s" * 32
SCHEDULE = (timedelta(0), timedelta(seconds=5), timedelta(seconds=30))


@dataclass
class Store:
    """What is stored about one endpoint's verification."""

    lost: bool = False
    problems: list = field(default_factory=list)
    verified: list = field(default_factory=list)
    disabled: list = field(default_factory=list)

    def _enter(self):
        if self.lost:
            raise LeaseLost("end_1: another worker has taken over")

    async def save_problem(self, _lease, problem):
        self._enter()
        self.problems.append((asyncio.get_running_loop().time(), problem))

    async def save_verified(self, _lease, proved, per_minute):
        self._enter()
        self.verified.append((proved, per_minute))

    async def disable(self, _lease, _url, problem):
        self._enter()
        self.disabled.append(problem)


@dataclass
class Receiver:
    """Answers each question by the next of its script, and then rightly."""

    script: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    rate: str = "*"

    async def send(self, headers, body):
        self.asked.append((asyncio.get_running_loop().time(), headers, body))
        verify([SECRET], headers, body, int(clock().timestamp()))
        challenge = orjson.loads(body)["data"]["challenge"]
        return self.script.pop(0) if self.script else Answer(status=200, excerpt=challenge.encode())

    async def ask(self, headers):
        self.asked.append((asyncio.get_running_loop().time(), headers, b""))
        if self.script:
            return Permission(self.script.pop(0))
        return Permission(Answer(status=200), headers["webhook-request-origin"], self.rate)


def texts():
    for number in range(1000):
        yield f"text-{number}"


def stage(receiver, store, kind=Verification.CHALLENGE, **options):
    subject = endpoint(options=EndpointOptions(verification=kind, schedule=SCHEDULE, **options))
    source = texts()
    return Verify(subject, LEASE, [SECRET], receiver, store, clock, lambda: 0.5, lambda: next(source), "hub.example")


@pytest.mark.parametrize("kind", [Verification.CHALLENGE, Verification.CLOUDEVENTS])
def test_an_endpoint_that_proves_itself_is_asked_once(kind):
    store, receiver = Store(), Receiver()
    proved = run(stage(receiver, store, kind).run())
    assert (proved.verified, proved.allowed_per_minute) == (True, None)
    assert store.verified == [(proof(kind, proved.url), None)]
    assert (len(receiver.asked), store.problems) == (1, [])


def test_the_rate_that_is_allowed_is_stored_and_told():
    store, receiver = Store(), Receiver(rate="30")
    proved = run(stage(receiver, store, Verification.CLOUDEVENTS, per_second=2).run())
    assert proved.allowed_per_minute == store.verified[0][1] == 30
    assert receiver.asked[0][1] == {"webhook-request-origin": "hub.example", "webhook-request-rate": "120"}


@pytest.mark.parametrize("kind", [Verification.CHALLENGE, Verification.CLOUDEVENTS])
def test_it_is_asked_again_by_its_schedule_until_it_proves_itself(kind):
    store, receiver = Store(), Receiver([Answer(status=404), Answer(error="refused"), Answer(status=200)])
    assert run(stage(receiver, store, kind).run()).verified
    assert [at for at, _, _ in receiver.asked] == [0, 5, 35, 65]
    (_, first), (_, second), (_, third) = store.problems
    assert "404: there is nothing at this path" in first
    assert f"asked again at {START + timedelta(seconds=5):%Y-%m-%d %H:%M:%SZ}" in first
    assert "relay endpoints enable hook" in first
    assert "refused: nothing answers at this address" in second
    assert "answered 200" in third


def test_every_challenge_is_another_one_with_an_id_of_its_own():
    receiver = Receiver([Answer(status=500)] * 3)
    run(stage(receiver, Store()).run())
    assert len({headers["webhook-id"] for _, headers, _ in receiver.asked}) == 4
    assert len({body for _, _, body in receiver.asked}) == 4
    assert all(headers["webhook-id"].startswith("chl_") for _, headers, _ in receiver.asked)


def test_a_receiver_that_wants_to_be_left_alone_for_a_while_is():
    receiver = Receiver([Answer(status=429, retry_after=600.0)])
    run(stage(receiver, Store()).run())
    assert [at for at, _, _ in receiver.asked] == [0, 600]


@pytest.mark.parametrize("answer", [Answer(status=410), Answer(status=404, wish=Wish.DISABLE)])
def test_an_endpoint_that_never_wants_anything_is_disabled(answer):
    store, receiver = Store(), Receiver([answer])
    assert run(stage(receiver, store).run()) is None
    assert store.disabled[0].startswith("not verified: ")
    assert (len(receiver.asked), store.verified, store.problems) == (1, [], [])


def test_stop_ends_the_wait_at_once():
    async def work():
        store, receiver = Store(), Receiver([Answer(status=500)] * 9)
        verifying = stage(receiver, store)
        async with running(verifying.run()) as task:
            await until(lambda: len(store.problems) == 3)
            at = asyncio.get_running_loop().time()
            verifying.stop()
        assert task.result() is None
        assert asyncio.get_running_loop().time() == at
        assert store.verified == []

    run(work())


def test_stopped_before_it_began_it_asks_nothing():
    receiver = Receiver()
    verifying = stage(receiver, Store())
    verifying.stop()
    assert run(verifying.run()) is None
    assert receiver.asked == []


@pytest.mark.parametrize("script", [[], [Answer(status=500)], [Answer(status=410)]])
def test_a_lost_lease_ends_it(script):
    with pytest.raises(LeaseLost):
        run(stage(Receiver(script), Store(lost=True)).run())


def test_an_introduced_sender_says_who_it_is_with_each_webhook():
    class Heard:
        async def send(self, headers, body):
            return headers, body

    headers, body = run(Introduced(Heard(), "hub.example").send({"webhook-id": "evt_1"}, b"{}"))
    assert headers == {"webhook-id": "evt_1", "webhook-request-origin": "hub.example"}
    assert body == b"{}"
