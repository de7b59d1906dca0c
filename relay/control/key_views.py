"""Keys as people and scripts see them: ids, counts and what is wrong; no key, not even a wrapped one."""

from datetime import datetime

from relay.control.views import View


class MasterKeyView(View):
    """A master key: `id` with the version of a KMS's key, the data keys that it wrapped, and whether it is here."""

    id: str
    current: bool
    here: bool
    data_keys: int
    customers: tuple[str, ...] = ()
    """Of a master key that is missing: the first of those who need it."""


class KeysShown(View):
    """All keys. `exchanging` are customers with an older data key that something is still sealed with."""

    masters: tuple[MasterKeyView, ...]
    customers: int
    data_keys: int
    damaged: tuple[str, ...]
    """Customers with a data key that does not name its master key."""
    exchanging: tuple[str, ...]
    rotation_began: datetime | None
    """When the rotation of all data keys began that has not ended."""


class KeyProblem(View):
    """Something that does not open: a customer's data key, or with a `subject` what is sealed there."""

    customer: str
    version: int | None = None
    subject: str | None = None
    purpose: str | None = None
    problem: str
    values: int = 0
    """Of a data key: how many sealed values open with it only."""


class KeysChecked(View):
    """What was opened, and what does not open."""

    ok: bool
    data_keys: int
    values: int
    problems: tuple[KeyProblem, ...]


class KeysRotated(View):
    """What was done. With problems the rest is done, and the command can be given again once they are mended."""

    ok: bool
    done: int
    """Data keys wrapped anew, or customers with a new data key and nothing sealed with an older one."""
    values: int = 0
    """Values sealed anew."""
    problems: tuple[KeyProblem, ...]
