"""Where master keys come from: the environment, a file, a KMS, and on a laptop a file that is made."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from relay.domain.errors import KeyTrouble
from relay.vault.keyring import Keyring, KeyringFile, ensure_master_key_file
from relay.vault.masters import MasterKeys
from relay.vault.remembered import Remembered
from relay.vault.transit import Transit, TransitAccess
from relay.vault.wrapped import KMS, KMS_KEY

NONE = Keyring("", {})


@dataclass(frozen=True, slots=True)
class Sources:
    """What was given."""

    text: str | None = field(default=None, repr=False)
    file: Path | None = None
    own: Path | None = None
    """A file that is made when nothing else is given."""
    kms: TransitAccess | None = None
    kms_key: str = ""
    current: str | None = None
    remember: timedelta = timedelta(minutes=5)


def master_keys(given: Sources) -> MasterKeys:
    """The master keys of all sources; their files are read again when they change.

    Raises:
        KeyTrouble: nothing is given, what is given is not a key, or the wanted current key is not there.
    """
    masters = MasterKeys(
        _keyring(given),
        Transit(given.kms) if given.kms else None,
        given.kms_key,
        given.current,
        Remembered(given.remember),
    )
    if given.kms and not KMS_KEY.fullmatch(KMS + given.kms_key):
        raise KeyTrouble("RELAY_VAULT__KMS_KEY must be the name of a key of the KMS: letters, digits, dots and dashes")
    masters.keyring()
    if not masters.opens(masters.current):
        raise masters.missing(masters.current)
    return masters


def _keyring(given: Sources) -> Callable[[], Keyring]:
    text = Keyring.from_text(given.text) if given.text else NONE
    own = given.own if given.file is None and not given.text else None
    if own and not given.kms:
        ensure_master_key_file(own)
    path = given.file or (own if own and own.exists() else None)
    if path is None:
        if not given.text and not given.kms:
            raise KeyTrouble(
                "no master key: set RELAY_VAULT__MASTER_KEY_FILE or RELAY_VAULT__MASTER_KEY, or RELAY_VAULT__KMS_URL"
            )
        return lambda: text
    file = KeyringFile(path)
    return lambda: text.before(file.keyring())
