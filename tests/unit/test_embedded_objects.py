"""The objects server over real sockets: what tansu relies on in S3, and what we add to it."""

import asyncio
import contextlib
import http.client
import socket
import struct
from datetime import datetime
from email.utils import parsedate_to_datetime
from xml.etree.ElementTree import fromstring

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.embedded.bucket import Bucket, Refused
from relay.embedded.objects import serve

RECORDS = "clusters/c/topics/t/partitions/0000000000/records/"


class Clock:
    def __init__(self):
        self.seconds = 1_800_000_000.25

    def __call__(self):
        return self.seconds


@contextlib.asynccontextmanager
async def objects(path, *, keep=2000, now=None):
    bucket = Bucket(path / "objects.db", keep=keep, now=now or Clock())
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/tansu/"
    serving = asyncio.create_task(serve(bucket, listening))
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            yield client
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        bucket.close()


def batch(records=1):
    return struct.pack(">qiibIhi", 0, 0, 0, 2, 0, 0, records - 1) + b"records"


def name(offset):
    return f"{RECORDS}{offset:020}.batch"


async def listing(client, **query):
    answer = await client.get("", params={"list-type": "2", **query})
    assert answer.status_code == 200
    return fromstring(answer.content)  # noqa: S314 - the server under test wrote it


async def keys(client, **query):
    return [each.text for each in (await listing(client, **query)).iterfind("Contents/Key")]


async def offsets(client):
    return [int(key.removeprefix(RECORDS).removesuffix(".batch")) for key in await keys(client, prefix=RECORDS)]


async def test_what_was_put_is_got_with_its_etag_and_time(tmp_path):
    async with objects(tmp_path) as client:
        etag = (await client.put("a/b c.json", content=b"body")).headers["ETag"]
        got = await client.get("a/b c.json")
        assert (got.content, got.headers["ETag"]) == (b"body", etag)
        assert parsedate_to_datetime(got.headers["Last-Modified"]).timestamp() == 1_800_000_000
        head = await client.head("a/b c.json")
        assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", "4")


async def test_an_object_that_is_not_there_is_404(tmp_path):
    async with objects(tmp_path) as client:
        assert (await client.get("nothing")).status_code == 404
        assert (await client.head("nothing")).status_code == 404


async def test_put_if_absent_is_refused_when_the_object_is_there(tmp_path):
    async with objects(tmp_path) as client:
        assert (await client.put("k", content=b"1", headers={"If-None-Match": "*"})).status_code == 200
        assert (await client.put("k", content=b"2", headers={"If-None-Match": "*"})).status_code == 412
        assert (await client.get("k")).content == b"1"


async def test_put_if_match_is_refused_when_the_object_has_changed_or_is_not_there(tmp_path):
    async with objects(tmp_path) as client:
        assert (await client.put("k", content=b"0", headers={"If-Match": '"any"'})).status_code == 412
        first = (await client.put("k", content=b"1")).headers["ETag"]
        assert (await client.put("k", content=b"2", headers={"If-Match": first})).status_code == 200
        assert (await client.put("k", content=b"3", headers={"If-Match": first})).status_code == 412
        assert (await client.get("k")).content == b"2"


async def test_of_many_writers_that_hold_one_etag_exactly_one_wins(tmp_path):
    async with objects(tmp_path) as client:
        etag = (await client.put("k", content=b"0")).headers["ETag"]
        answers = await asyncio.gather(
            *(client.put("k", content=b"%d" % n, headers={"If-Match": etag}) for n in range(1, 20))
        )
        assert sorted(answer.status_code for answer in answers) == [200] + 18 * [412]


async def test_get_of_a_known_version_is_304_without_a_body(tmp_path):
    async with objects(tmp_path) as client:
        etag = (await client.put("k", content=b"body")).headers["ETag"]
        answer = await client.get("k", headers={"If-None-Match": etag})
        assert (answer.status_code, answer.content) == (304, b"")
        assert (await client.get("k", headers={"If-None-Match": '"other"'})).content == b"body"


@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [
        ("bytes=0-0", 206, b"0"),
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=7-99", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=-99", 206, b"0123456789"),
        ("bytes=10-", 416, None),
        ("lines=1-2", 200, b"0123456789"),
    ],
)
async def test_a_range_gives_that_part(tmp_path, asked, status, body):
    async with objects(tmp_path) as client:
        await client.put("k", content=b"0123456789")
        answer = await client.get("k", headers={"Range": asked})
        assert answer.status_code == status
        assert body is None or answer.content == body


async def test_a_listing_has_keys_in_order_with_times_finer_than_a_second(tmp_path):
    async with objects(tmp_path) as client:
        for key in ("b/2", "a", "b/1", "c&<"):
            await client.put(key, content=b"12")
        found = await listing(client)
        assert [each.text for each in found.iterfind("Contents/Key")] == ["a", "b/1", "b/2", "c&<"]
        times = {
            each.findtext("Key"): datetime.fromisoformat(each.findtext("LastModified"))
            for each in found.iterfind("Contents")
        }
        # The clock of this test stands still; the order of writing is told all the same.
        assert sorted(times, key=times.get) == ["b/2", "a", "b/1", "c&<"]
        assert await keys(client, prefix="b/") == ["b/1", "b/2"]
        assert await keys(client, **{"start-after": "b/1"}) == ["b/2", "c&<"]


async def test_a_delimiter_folds_what_lies_deeper(tmp_path):
    async with objects(tmp_path) as client:
        for key in ("t/a/1", "t/a/2", "t/b/1", "t/b.json", "t/c", "u/d"):
            await client.put(key, content=b"")
        found = await listing(client, prefix="t/", delimiter="/")
        assert [each.text for each in found.iterfind("Contents/Key")] == ["t/b.json", "t/c"]
        assert [each.text for each in found.iterfind("CommonPrefixes/Prefix")] == ["t/a/", "t/b/"]


async def test_pages_of_any_size_make_up_the_whole_listing(tmp_path):
    names = [f"k{n:03}" for n in range(25)]
    async with objects(tmp_path) as client:
        for key in names:
            await client.put(key, content=b"")
        for size in (1, 5, 7, 25, 100):
            seen, token = [], {}
            while True:
                page = await listing(client, **{"max-keys": str(size)}, **token)
                seen += [each.text for each in page.iterfind("Contents/Key")]
                if page.findtext("IsTruncated") == "false":
                    break
                token = {"continuation-token": page.findtext("NextContinuationToken")}
            assert seen == names


async def test_more_than_a_thousand_batches_come_in_one_page(tmp_path):
    # tansu was seen to take the first page of a partition for all of it.
    bucket = Bucket(tmp_path / "objects.db", now=Clock())
    for offset in range(1500):
        bucket.put(name(offset), batch())
    bucket.close()
    async with objects(tmp_path) as client:
        assert await offsets(client) == list(range(1500))


async def test_deleted_objects_are_gone_one_by_one_and_in_bulk(tmp_path):
    async with objects(tmp_path) as client:
        for key in ("a", "b&", "c", "d"):
            await client.put(key, content=b"")
        assert (await client.delete("a")).status_code == 204
        assert (await client.delete("a")).status_code == 204
        body = '<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Object><Key>b&amp;</Key></Object><Object><Key>c</Key></Object></Delete>'
        answer = await client.post("", params={"delete": ""}, content=body)
        assert (
            answer.text
            == "<DeleteResult><Deleted><Key>b&amp;</Key></Deleted><Deleted><Key>c</Key></Deleted></DeleteResult>"
        )
        assert await keys(client) == ["d"]


async def test_a_listing_stops_at_a_young_hole_in_the_offsets(tmp_path):
    clock = Clock()
    async with objects(tmp_path, now=clock) as client:
        await client.put(name(0), content=batch(3))
        await client.put(name(5), content=batch(2))  # 3 and 4 are still on their way
        await client.put(name(7), content=batch())
        assert await offsets(client) == [0]
        await client.put(name(3), content=batch(2))
        assert await offsets(client) == [0, 3, 5, 7]


async def test_a_hole_that_stays_is_stepped_over_after_three_seconds(tmp_path):
    clock = Clock()
    async with objects(tmp_path, now=clock) as client:
        await client.put(name(0), content=batch())
        await client.put(name(5), content=batch())
        clock.seconds += 2.9
        assert await offsets(client) == [0]
        clock.seconds += 0.2
        assert await offsets(client) == [0, 5]


async def test_a_hole_between_two_pages_is_seen_too(tmp_path):
    async with objects(tmp_path) as client:
        await client.put(name(0), content=batch())
        await client.put(name(5), content=batch())
        assert await keys(client, prefix=RECORDS, **{"start-after": name(0)}) == []


async def test_only_the_newest_batches_of_a_partition_are_kept(tmp_path):
    async with objects(tmp_path, keep=5) as client:
        await client.put("clusters/c/topics/t/partitions/0000000000/watermark.json", content=b"{}")
        for offset in range(12):
            await client.put(name(offset), content=batch())
            assert len(await offsets(client)) <= 5
        assert await offsets(client) == [7, 8, 9, 10, 11]
        assert len(await keys(client)) == 6


async def test_retention_counts_batches_and_not_writes(tmp_path):
    async with objects(tmp_path, keep=5) as client:
        for _ in range(20):
            for offset in range(5):
                await client.put(name(offset), content=batch())
        assert await offsets(client) == [0, 1, 2, 3, 4]


async def test_everything_is_there_after_the_file_is_opened_again(tmp_path):
    async with objects(tmp_path) as client:
        await client.put("k", content=b"body")
    async with objects(tmp_path) as client:
        assert (await client.get("k")).content == b"body"


@pytest.mark.parametrize("headers", [{"Host": "relay.example"}, {"Host": ""}, {"Origin": "https://relay.example"}])
async def test_what_a_web_page_could_send_is_refused(tmp_path, headers):
    async with objects(tmp_path) as client:
        await client.put("k", content=b"secret")
        assert (await client.get("k", headers=headers)).status_code == 403


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /tansu/k HTTP/1.1\r\nHost: 127.0.0.1:1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /tansu/k HTTP/1.1\r\nHost: 127.0.0.1:1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"PUT /tansu/k HTTP/1.1\r\nHost: 127.0.0.1:1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"PATCH /tansu/k HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", 405),
        (b"GET /tansu/?max-keys=many HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", 400),
        (b"POST /tansu/?delete HTTP/1.1\r\nHost: 127.0.0.1:1\r\nContent-Length: 1\r\n\r\n<", 400),
        (b"X" * 70_000, 400),
    ],
)
async def test_a_request_that_makes_no_sense_gets_an_answer_that_says_so(tmp_path, raw, status):
    async with objects(tmp_path) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(raw)
        line = await reader.readline()
        assert int(line.split()[1]) == status
        writer.close()
        await writer.wait_closed()


async def test_requests_that_come_in_pieces_or_all_at_once_are_answered_in_order(tmp_path):
    put = b"PUT /tansu/k HTTP/1.1\r\nHost: 127.0.0.1:1\r\nContent-Length: 5\r\n\r\nhello"
    get = b"GET /tansu/k HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n"
    async with objects(tmp_path) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        for piece in (put[:10], put[10:70], put[70:] + get + get[:5], get[5:]):
            writer.write(piece)
            await writer.drain()
        answers = await reader.readuntil(b"hello") + await reader.readuntil(b"hello")
        assert answers.count(b"HTTP/1.1 200 OK") == 3
        writer.close()
        await writer.wait_closed()


def test_the_answers_are_those_a_strict_http_client_accepts(tmp_path):
    async def ask():
        async with objects(tmp_path) as client:
            await asyncio.to_thread(talk, client.base_url.port)

    def talk(port):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for method, body, status in (
            ("PUT", b"x", 200),
            ("HEAD", None, 200),
            ("DELETE", None, 204),
            ("GET", None, 404),
        ):
            connection.request(method, "/tansu/k", body=body)
            answer = connection.getresponse()
            assert answer.status == status
            answer.read()
        connection.close()

    asyncio.run(ask())


@settings(deadline=None)  # each example is a file of its own
@given(
    names=st.sets(st.text("ab/é.", min_size=1, max_size=6), max_size=20),
    prefix=st.text("ab/", max_size=2),
    delimiter=st.sampled_from(["", "/"]),
    limit=st.integers(1, 8),
)
def test_any_walk_over_pages_is_the_listing_that_s3_defines(tmp_path_factory, names, prefix, delimiter, limit):
    bucket = Bucket(tmp_path_factory.mktemp("bucket") / "objects.db", now=Clock())
    for key in names:
        bucket.put(key, b"")
    entries, prefixes, after = [], [], ""
    while after is not None:
        page = bucket.page(prefix, after, delimiter, limit)
        assert len(page.entries) + len(page.prefixes) <= limit
        entries += [entry.key for entry in page.entries]
        prefixes += page.prefixes
        after = page.go_on_after
    bucket.close()
    matching = sorted((key for key in names if key.startswith(prefix)), key=str.encode)
    deeper = [key for key in matching if delimiter and delimiter in key[len(prefix) :]]
    assert entries == [key for key in matching if key not in deeper]
    assert prefixes == sorted({key[: key.index("/", len(prefix)) + 1] for key in deeper}, key=str.encode)


def test_a_refused_put_changes_nothing(tmp_path):
    bucket = Bucket(tmp_path / "objects.db", now=Clock())
    etag = bucket.put("k", b"1")
    with pytest.raises(Refused):
        bucket.put("k", b"2", if_absent=True)
    assert bucket.get("k").etag == etag
    bucket.close()
