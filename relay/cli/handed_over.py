"""Handed over: secrets and tokens, shown once or written to a file that only its owner can read."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from relay.cli.shown import document, line
from relay.domain.errors import AlreadyThere, UserError

if TYPE_CHECKING:
    from relay.control import EndpointAdded, SecretRotated
    from relay.control.connection_views import ConnectionToken
    from relay.control.pull import PullToken

SecretFile = Annotated[
    Path | None,
    typer.Option(help="Write what the receiver verifies with here, mode 0600, instead of showing the secret."),
]

TokenFile = Annotated[Path | None, typer.Option(help="Write the token here, mode 0600, instead of showing it.")]


@contextmanager
def private(path: Path | None, option: str = "--secret-file") -> Iterator[TextIO | None]:
    """A new file that only its owner can read, made before the secret is: it is never lost for want of a place."""
    if path is None:
        yield None
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise AlreadyThere(f"{option} {path} exists: name a new file") from None
    except OSError as error:
        raise UserError(f"{option} {path} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "w") as file:
        try:
            yield file
        except BaseException:
            path.unlink()
            raise


def hand_over(made: "EndpointAdded | SecretRotated", file: TextIO | None) -> None:
    """Into the file, if there is one."""
    if file:
        file.writelines(f"{each}\n" for each in made.for_receiver)


def tell_keys(made: "EndpointAdded | SecretRotated", secret_file: Path | None) -> None:
    """On the screen; the secret only when it was not written to a file."""
    if made.secret and secret_file is None:
        line(f"signing secret, shown only now: {made.secret}")
    if made.public_key:
        line(f"public key for the receiver: {made.public_key}")
    if secret_file is not None:
        line(f"{'signing secret' if made.secret else 'public key'} written to {secret_file}")


def hand_over_token(made: "ConnectionToken | PullToken", file: TextIO | None) -> None:
    """Into the file, if there is one."""
    if file:
        file.write(f"{made.token}\n")


def tell_token(
    made: "ConnectionToken | PullToken", token_file: Path | None, called: str, good_for: str, *, as_json: bool
) -> None:
    """On the screen; the token only when it was not written to a file."""
    if as_json:
        document(made.model_dump(mode="json", exclude={"token"} if token_file else None))
        return
    line(f"{called} written to {token_file}" if token_file else f"{called}, shown only now: {made.token}")
    line(f"good for {good_for}")
