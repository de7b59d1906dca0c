"""The part of S3 that the embedded broker needs, on 127.0.0.1, over one SQLite file.

    python -m relay.embedded.objects --database FILE (--port N | --socket FD) [--keep-batches N]

    PUT (If-Match, If-None-Match: *)   GET, HEAD (If-None-Match, Range)   DELETE   POST ?delete   GET ?list-type=2

Signatures are not checked: only this machine can connect.
"""

import argparse
import asyncio
import contextlib
import re
import socket
import sqlite3
import sys
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

from relay.embedded.bucket import Bucket, Entry, Page, Refused
from relay.embedded.child import die_with
from relay.embedded.http1 import Answer, Connection, Request, refusal

MAX_KEYS = 10_000  # more than the thousand of S3: the broker lists a whole partition for every fetch

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def answer(bucket: Bucket, request: Request) -> Answer:
    """Carry out one request; trouble with the file (a full disk) is answered with 500 and printed."""
    try:
        return _answer(bucket, request)
    except sqlite3.Error as error:
        print(f"{request.method} {request.key}: {error}", file=sys.stderr)  # noqa: T201 - the log of this process
        return refusal(500)


def _answer(bucket: Bucket, request: Request) -> Answer:
    if request.method == "PUT":
        return _put(bucket, request)
    if request.method in {"GET", "HEAD"}:
        return _list(bucket, request.query) if not request.key else _get(bucket, request)
    if request.method == "DELETE":
        bucket.delete([request.key])
        return Answer(204)
    if request.method == "POST" and "delete" in request.query:
        return _delete_many(bucket, request.body)
    return refusal(405)


def _put(bucket: Bucket, request: Request) -> Answer:
    if_match = request.headers.get("if-match")
    try:
        etag = bucket.put(
            request.key,
            request.body,
            if_match=if_match and if_match.strip('"'),
            if_absent=request.headers.get("if-none-match") == "*",
        )
    except Refused:
        return refusal(412)
    return Answer(200, headers={"ETag": f'"{etag}"'})


def _get(bucket: Bucket, request: Request) -> Answer:
    stored = bucket.get(request.key)
    if stored is None:
        return refusal(404)
    headers = {"ETag": f'"{stored.etag}"', "Last-Modified": formatdate(stored.modified, usegmt=True)}
    if request.headers.get("if-none-match", "").strip('"') == stored.etag:
        return Answer(304, headers=headers)
    if "if-match" in request.headers and request.headers["if-match"].strip('"') not in {stored.etag, "*"}:
        return refusal(412)
    headers |= {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    status, body = 200, stored.body
    if match := _RANGE.fullmatch(request.headers.get("range", "")):
        first, end = _span(match[1], match[2], len(body))
        if first >= end:
            return refusal(416)
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(body)}"
        status, body = 206, body[first:end]
    return Answer(status, b"" if request.method == "HEAD" else body, headers, len(body))


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    """Return the half-open span that `bytes=first-last` means for an object of `size` bytes."""
    if not first:
        return max(size - int(last or 0), 0), size
    return int(first), min(int(last) + 1, size) if last else size


def _list(bucket: Bucket, query: dict[str, str]) -> Answer:
    prefix = query.get("prefix", "")
    after = unquote(query.get("continuation-token", "")) or query.get("start-after", "")
    try:
        limit = max(1, min(int(query.get("max-keys", MAX_KEYS)), MAX_KEYS))
    except ValueError:
        return refusal(400)
    page = bucket.page(prefix, after, query.get("delimiter", ""), limit)
    return Answer(200, _listing(prefix, page).encode(), {"Content-Type": "application/xml"})


def _listing(prefix: str, page: Page) -> str:
    contents = "".join(map(_line, page.entries))
    prefixes = "".join(f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in page.prefixes)
    token = page.go_on_after
    more = "" if token is None else f"<NextContinuationToken>{quote(token)}</NextContinuationToken>"
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>tansu</Name><Prefix>{escape(prefix)}</Prefix>'
        f"<KeyCount>{len(page.entries) + len(page.prefixes)}</KeyCount><IsTruncated>{str(token is not None).lower()}"
        f"</IsTruncated>{more}{contents}{prefixes}</ListBucketResult>"
    )


@lru_cache(maxsize=16_384)
def _line(entry: Entry) -> str:
    # LastModified with its fraction: the broker orders batches by it.
    modified = datetime.fromtimestamp(entry.modified, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return (
        f"<Contents><Key>{escape(entry.key)}</Key><LastModified>{modified}</LastModified>"
        f'<ETag>"{entry.etag}"</ETag><Size>{entry.size}</Size></Contents>'
    )


def _delete_many(bucket: Bucket, body: bytes) -> Answer:
    try:
        # The document comes from the broker on this machine, and expat expands no external entity.
        document = ET.fromstring(body)  # noqa: S314
    except ET.ParseError:
        return refusal(400)
    keys = [each.text or "" for each in document.iter() if each.tag.rpartition("}")[2] == "Key"]
    bucket.delete(keys)
    deleted = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
    return Answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode(), {"Content-Type": "application/xml"})


async def serve(bucket: Bucket, listening: socket.socket) -> None:
    """Answer requests on a listening socket until cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(lambda request: answer(bucket, request)), sock=listening)
    async with server:
        await server.serve_forever()


def main(arguments: list[str] | None = None) -> None:
    """Run the server in a process of its own, until it is killed or its parent is gone."""
    parser = argparse.ArgumentParser(prog="python -m relay.embedded.objects")
    parser.add_argument("--database", type=Path, required=True, help="the SQLite file")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int, help="listen here, on 127.0.0.1")
    where.add_argument("--socket", type=int, help="an inherited file descriptor that listens already")
    parser.add_argument("--keep-batches", type=int, default=2000, help="record batches kept of each partition")
    parser.add_argument("--parent", type=int, help="end when this process does")
    options = parser.parse_args(arguments)
    if options.parent is not None:
        die_with(options.parent)
    listening = (
        socket.socket(fileno=options.socket) if options.socket else socket.create_server(("127.0.0.1", options.port))
    )
    bucket = Bucket(options.database, keep=options.keep_batches)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(bucket, listening))
    bucket.close()


if __name__ == "__main__":
    main()
