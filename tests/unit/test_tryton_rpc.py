"""Tryton's sessions and answers, without Tryton: what is sent, how often, and what each refusal becomes."""

import asyncio
import base64
import json

import httpx
import pytest

from relay.connectors.tryton.connector import TRYTON, TrytonCredentials, TrytonSettings
from relay.connectors.tryton.rpc import ErpSaidNo, Rpc, SessionAuth
from relay.domain.errors import CredentialsRefused, Throttled, Unavailable, UnexpectedReply, Unsupported
from relay.domain.pace import READING

PASSWORD = "canary-senha-42"
LOGIN = "common.db.login"
HTML = "<!doctype html>\n<title>401 Unauthorized</title>"


class Erp:
    """Answers by method name: each a list of answers to give in turn, the last one for ever."""

    def __init__(self, **answers):
        self.answers = {LOGIN: [self.result([3, "token-1", None])], **answers}
        self.asked = []

    @staticmethod
    def result(value):
        return httpx.Response(200, json={"id": 0, "result": value})

    @staticmethod
    def error(*parts):
        return httpx.Response(200, json={"id": 0, "error": list(parts)})

    def __call__(self, request):
        body = json.loads(request.content)
        self.asked.append((request, body))
        turn = self.answers[body["method"]]
        return turn.pop(0) if len(turn) > 1 else turn[0]

    def count(self, method):
        return sum(body["method"] == method for _, body in self.asked)


async def call(erp, *, times=1, database="erp"):
    async with httpx.AsyncClient(transport=httpx.MockTransport(erp)) as client:
        rpc = Rpc(client, SessionAuth("http://erp.example", database, "relay", PASSWORD))
        outcomes = [await asyncio.gather(rpc.call("read", 7), return_exceptions=True) for _ in range(times)]
    return [outcome for (outcome,) in outcomes]


async def failing(erp, kind, *, times=1):
    outcomes = await call(erp, times=times)
    assert [type(each) for each in outcomes] == [kind] * times
    assert not any(PASSWORD in str(each) or PASSWORD in repr(each) for each in outcomes)
    return outcomes[-1]


async def test_the_session_is_sent_with_every_call_and_gzip_always_accepted():
    erp = Erp(read=[Erp.result("seven")])
    assert await call(erp, times=3) == ["seven"] * 3
    assert erp.count(LOGIN) == 1
    request, body = erp.asked[-1]
    assert str(request.url) == "http://erp.example/erp/rpc/"
    assert request.headers["authorization"] == "Session " + base64.b64encode(b"relay:3:token-1").decode()
    assert request.headers["accept-encoding"] == "gzip"
    assert body["params"] == [7, {}]


async def test_reads_may_be_sent_again_and_logins_never():
    erp = Erp(read=[Erp.result(1)])
    await call(erp)
    (login, _), (read, _) = erp.asked
    assert READING not in login.extensions
    assert read.extensions[READING] is True


async def test_many_calls_at_once_make_one_login():
    erp = Erp(read=[Erp.result(1)])
    async with httpx.AsyncClient(transport=httpx.MockTransport(erp)) as client:
        rpc = Rpc(client, SessionAuth("http://erp.example", "erp", "relay", PASSWORD))
        assert await asyncio.gather(*(rpc.call("read") for _ in range(20))) == [1] * 20
    assert erp.count(LOGIN) == 1


async def test_an_ended_session_is_renewed_once_for_all_calls_that_find_it_ended():
    ended = {"erp": "token-1"}

    def answer(request):
        body = json.loads(request.content)
        if body["method"] == LOGIN:
            logins.append(body)
            return Erp.result([3, f"token-{len(logins)}", None])
        used = base64.b64decode(request.headers["authorization"].split()[1]).decode().rpartition(":")[2]
        return httpx.Response(401) if used == ended["erp"] else Erp.result(used)

    logins = []
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        rpc = Rpc(client, SessionAuth("http://erp.example", "erp", "relay", PASSWORD))
        assert await asyncio.gather(*(rpc.call("read") for _ in range(5))) == ["token-2"] * 5
    assert len(logins) == 2


async def test_a_fresh_session_refused_is_not_fought():
    erp = Erp(read=[httpx.Response(401)])
    await failing(erp, CredentialsRefused, times=3)
    assert (erp.count(LOGIN), erp.count("read")) == (2, 2)


@pytest.mark.parametrize("refusal", [httpx.Response(401, html=HTML), httpx.Response(403, html=HTML)])
async def test_a_refused_login_is_asked_once(refusal):
    erp = Erp(**{LOGIN: [refusal]})
    await failing(erp, CredentialsRefused, times=3)
    assert erp.count(LOGIN) == 1


async def test_a_second_factor_is_refused_with_its_reason():
    erp = Erp(**{LOGIN: [Erp.error("LoginException", ["totp", "Code", "char"])]})
    assert "second factor" in str(await failing(erp, CredentialsRefused))


async def test_a_lock_out_is_waited_for_and_then_over():
    erp = Erp(**{LOGIN: [httpx.Response(429, html=HTML), Erp.result([3, "t", None])], "read": [Erp.result(1)]})
    throttled, after = await call(erp, times=2)
    assert (type(throttled), throttled.retry_after, after) == (Throttled, 300.0, 1)


@pytest.mark.parametrize(
    ("databases", "kind"),
    [
        (Erp.result(["outra"]), Unsupported),
        (Erp.result(["erp"]), Unavailable),
        (httpx.Response(403), Unavailable),
    ],
)
async def test_a_login_answered_404_asks_whether_the_database_is_there(databases, kind):
    erp = Erp(**{LOGIN: [httpx.Response(404, html=HTML)], "common.db.list": [databases]})
    assert "'erp'" in str(await failing(erp, kind))
    assert str(erp.asked[-1][0].url) == "http://erp.example/rpc/"


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Erp.error("UserError", ["You are not allowed to read Purchase", "", None]), ErpSaidNo, "not allowed to read"),
        (Erp.error("'nope'", ""), ErpSaidNo, "nope"),
        (Erp.error("ConcurrencyException", ["Records were modified"]), Unavailable, "modified"),
        (httpx.Response(200, json={"id": 1}), UnexpectedReply, "neither a result nor an error"),
        (httpx.Response(200, html=HTML), UnexpectedReply, "HTML"),
        (httpx.Response(200, text='{"id":1,"result":[{"na'), UnexpectedReply, "no JSON"),
        (httpx.Response(200, text=""), UnexpectedReply, "empty body"),
        (httpx.Response(503, html=HTML), Unavailable, "503"),
        (httpx.Response(503, headers={"Retry-After": "7"}), Throttled, "503"),
        (httpx.Response(429), Throttled, "429"),
        (httpx.Response(500, html=HTML), Unavailable, "500"),
        (httpx.Response(403), Unsupported, "403"),
    ],
)
async def test_each_bad_answer_becomes_its_error(answer, kind, words):
    assert words in str(await failing(Erp(read=[answer]), kind))


async def test_an_answer_called_gzip_that_is_not_is_explained():
    def lying(request):
        if json.loads(request.content)["method"] == LOGIN:
            return Erp.result([3, "t", None])
        return httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b'{"id":1}'))

    async with httpx.AsyncClient(transport=httpx.MockTransport(lying)) as client:
        with pytest.raises(UnexpectedReply, match="gzip"):
            await Rpc(client, SessionAuth("http://erp.example", "erp", "relay", PASSWORD)).call("read")


async def test_fractions_stay_exact():
    erp = Erp(read=[httpx.Response(200, text='{"id":1,"result":12.30}')])
    assert str((await call(erp))[0]) == "12.30"


async def test_a_database_name_is_quoted_into_the_address():
    erp = Erp(read=[Erp.result(1)])
    await call(erp, database="a/b ç")
    assert erp.asked[-1][0].url.raw_path == b"/a%2Fb%20%C3%A7/rpc/"


def test_the_settings_refuse_credentials_in_the_address():
    with pytest.raises(ValueError, match="leave the user and the password out"):
        TrytonSettings(url="https://relay:secret@erp.example", database="erp")


def test_the_password_shows_nowhere():
    credentials = TrytonCredentials(username="relay", password=PASSWORD)
    settings = TrytonSettings(url="https://erp.example", database="erp")
    connector = TRYTON.build(settings, credentials, httpx.AsyncClient())
    assert not any(PASSWORD in repr(each) for each in (credentials, settings, connector, vars(connector)))
