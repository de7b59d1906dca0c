"""Master keys by id, from a file or from the environment.

    keyid:base64 of 32 bytes        one a line in a file, separated by commas in RELAY_VAULT__MASTER_KEY

The first key is the current one: it wraps every new data key. The others still open what they wrapped before, so a
master key is replaced by putting the new one first and keeping the old one until nothing is wrapped by it any more. No
key is ever shown, not even in part.
"""

import base64
import binascii
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import structlog

from relay.domain.errors import AlreadyThere, KeyTrouble
from relay.vault.envelope import KEY_BYTES

log = structlog.get_logger()

# Shorter than a key in any writing: a key in the place of an id is never taken for one, and so never printed.
KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,24}")
FORM = "`keyid:base64 of 32 bytes`"


@dataclass(frozen=True, slots=True)
class Keyring:
    """The master keys of one installation; `current` is the id of the one that wraps new data keys."""

    current: str
    keys: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def from_text(cls, text: str) -> "Keyring":
        """Keys as `RELAY_VAULT__MASTER_KEY` holds them, separated by commas. Raises KeyTrouble."""
        return _keyring(text.split(","), "RELAY_VAULT__MASTER_KEY")

    @classmethod
    def from_file(cls, path: Path) -> "Keyring":
        """Keys from a file that only its owner may read; `#` begins a comment line.

        Raises KeyTrouble when it is missing, unreadable, open to others, or holds something else.
        """
        text = _read_private(path)
        return _keyring((line for line in text.splitlines() if not line.lstrip().startswith("#")), f"`{path}`")

    def before(self, other: "Keyring") -> "Keyring":
        """These keys and then the other's. Raises KeyTrouble when both have an id with different keys."""
        if not self.keys:
            return other
        if clash := [each for each in self.keys.keys() & other.keys.keys() if self.keys[each] != other.keys[each]]:
            raise KeyTrouble(f"the master key id `{clash[0]}` names one key in the environment and another in the file")
        return Keyring(self.current, {**self.keys, **other.keys})


class KeyringFile:
    """The keys in a file, read again when it changes, so that what is running learns of new ones."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keyring: Keyring | None = None
        self._mark: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        return f"KeyringFile({str(self._path)!r})"

    def keyring(self) -> Keyring:
        """The keys as they are now.

        Raises KeyTrouble when they never could be read. A file that is damaged later changes nothing but the log.
        """
        mark = _mark(self._path)
        if self._keyring is None or mark != self._mark:
            try:
                self._keyring = Keyring.from_file(self._path)
            except KeyTrouble as trouble:
                if self._keyring is None:
                    raise
                log.warning("keyring.unread", problem=str(trouble))
            self._mark = mark
        return self._keyring


def new_master_key_file(path: Path) -> Keyring:
    """Make a file with one new random master key, readable by its owner only, and give it back as a keyring.

    The file appears whole or not at all, and never replaces another. Raises AlreadyThere, KeyTrouble.
    """
    key_id = f"k{datetime.now(UTC):%Y%m%d}"
    key = os.urandom(KEY_BYTES)
    try:
        _create_private(path, f"{key_id}:{base64.b64encode(key).decode()}\n".encode())
    except OSError as trouble:
        if path.exists():
            raise AlreadyThere(f"`{path}` exists: a master key is never overwritten") from None
        raise KeyTrouble(f"cannot write the master key file `{path}`: {trouble.strerror}") from None
    return Keyring(current=key_id, keys={key_id: key})


def ensure_master_key_file(path: Path) -> Keyring:
    """The keyring in this file, made first when there is none. Safe when two processes do it at once."""
    if not path.exists():
        try:
            return new_master_key_file(path)
        except AlreadyThere:
            pass
    return Keyring.from_file(path)


def _mark(path: Path) -> tuple[int, ...] | None:
    """What differs when the file is another, or has other content."""
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size, seen.st_mode


def _keyring(entries: Iterable[str], where: str) -> Keyring:
    keys: dict[str, bytes] = {}
    for number, entry in enumerate((each.strip() for each in entries if each.strip()), start=1):
        key_id, colon, encoded = entry.partition(":")
        if not colon or not KEY_ID.fullmatch(key_id):
            raise KeyTrouble(f"master key {number} in {where} is not {FORM}: the key id is missing or malformed")
        if key_id in keys:
            raise KeyTrouble(f"the master key id `{key_id}` stands twice in {where}")
        keys[key_id] = _decoded(encoded.strip(), key_id, where)
    if not keys:
        raise KeyTrouble(f"there is no master key in {where}: it must hold {FORM}")
    return Keyring(current=next(iter(keys)), keys=keys)


def _decoded(encoded: str, key_id: str, where: str) -> bytes:
    try:
        key = base64.b64decode(encoded.translate(str.maketrans("-_", "+/")), validate=True)
    except (binascii.Error, ValueError):
        raise KeyTrouble(f"the master key `{key_id}` in {where} is not base64: it must be {FORM}") from None
    if len(key) != KEY_BYTES:
        raise KeyTrouble(f"the master key `{key_id}` in {where} has {len(key)} bytes instead of {KEY_BYTES}")
    return key


def _read_private(path: Path) -> str:
    try:
        with path.open("rb") as file:
            # Asked of the open file, so that it cannot be exchanged between the question and the reading.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise KeyTrouble(
                    f"the master key file `{path}` has mode {mode:04o}, so others can use it: `chmod 600 {path}`"
                )
            return file.read().decode("ascii")
    except UnicodeDecodeError:
        raise KeyTrouble(f"the master key file `{path}` is not text: each line must be {FORM}") from None
    except OSError as trouble:
        raise KeyTrouble(f"cannot read the master key file `{path}`: {trouble.strerror}") from None


def _create_private(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # A hard link, unlike a rename, fails when the name is taken.
        path.hardlink_to(draft)
    finally:
        draft.unlink()
