"""`relay verify`: one webhook checked by hand, as a receiver does, and the reason when it is refused."""

import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from relay.cli.options import AsJson, span
from relay.cli.shown import document, failure, line
from relay.domain.errors import UserError
from relay.domain.signing import ID, SIGNATURE, TIMESTAMP, SignatureRefused, VerifyingKey, verify, verifying_key

REFUSED = 1


def verify_by_hand(  # noqa: PLR0913 - one per option
    *,
    secret_file: Annotated[Path, typer.Option(help="File with whsec_... or whpk_... keys.", show_default=False)],
    message_id: Annotated[str, typer.Option("--id", help=f"The header {ID}.", show_default=False)],
    timestamp: Annotated[str, typer.Option(help=f"The header {TIMESTAMP}.", show_default=False)],
    signature: Annotated[str, typer.Option(help=f"The header {SIGNATURE}.", show_default=False)],
    tolerance: Annotated[
        timedelta,
        typer.Option(
            parser=span,
            help="How far from now the timestamp may be; longer for old ones.",
            metavar="SPAN",
            show_default="5m",
        ),
    ] = timedelta(minutes=5),
    as_json: AsJson = False,
) -> None:
    """Verify a webhook by hand. Its body, byte for byte, comes on standard input.

    Exit code 0: the holder of one of the keys signed it. 1: it is refused; the reason is missing, malformed, stale,
    future or mismatch.
    """
    from relay.cli.given import signing_secrets_of

    if str(secret_file) == "-":
        raise UserError("standard input is for the body: give --secret-file a file")
    keys = [verifying_key(each) for each in signing_secrets_of(secret_file, "", os.environ)]
    headers = {ID: message_id, TIMESTAMP: timestamp, SIGNATURE: signature}
    body, now = sys.stdin.buffer.read(), int(time.time())
    seconds = int(tolerance.total_seconds())
    try:
        verify(keys, headers, body, now, seconds)
    except SignatureRefused as refused:
        advice = _advice(keys, headers, body, now, seconds)
        failure(refused.reason, REFUSED, f"refused ({refused.reason}): {refused}{advice}", as_json=as_json)
        raise typer.Exit(REFUSED) from None
    if as_json:
        document({"verified": True, "id": message_id, "timestamp": int(timestamp), "bytes": len(body)})
    else:
        line(f"verified: {message_id}, a body of {len(body)} bytes, signed {now - int(timestamp)} s ago")


def _advice(keys: list[VerifyingKey], headers: dict[str, str], body: bytes, now: int, tolerance: int) -> str:
    """Editors and `echo` put a line end behind a body that was copied: the fault that people make by hand."""
    if not body.endswith(b"\n"):
        return ""
    try:
        verify(keys, headers, body.removesuffix(b"\n").removesuffix(b"\r"), now, tolerance)
    except SignatureRefused:
        return ""
    return ". It fits without the line end behind the body: that was added when it was copied"
