"""The error tree: each class says what the caller does next.

RelayError
├── Transient                 try again later (`retry_after` seconds, when the other side said so)
│   ├── Unavailable           no answer, a timeout, 5xx
│   └── Throttled             429, 503 with Retry-After: slow down
├── Permanent                 trying again changes nothing
│   ├── CredentialsRefused    the ERP refuses the login: reconnect
│   ├── Unsupported           this system or version cannot do it
│   ├── UnexpectedReply       the answer is not what its protocol promises (HTML, half a body)
│   └── RecordRejected        one record cannot be read; its neighbours can
├── LeaseLost                 another worker owns this now: stop, change nothing
├── Stuck                     something does not end that was told to: end the process
└── UserError                 a person gave something wrong; the message says what, where and what to do
├── NotFound
├── AlreadyThere
└── KeyTrouble            a master key is missing, or a sealed value does not open with it
"""

from collections.abc import Iterator


def causes(error: BaseException) -> Iterator[BaseException]:
    """The errors in `error`: those of a group, however deep, or itself."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from causes(each)
    else:
        yield error


class RelayError(Exception):
    """Everything relay raises on purpose."""

    of_erp = False
    """Whether an ERP said it to somebody who waits for its answer: the message then tells that person what to do."""


class Transient(RelayError):
    """Try again later."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds the other side asked for, or None."""


class Unavailable(Transient):
    """No answer, a timeout, or 5xx."""

    unsent = False
    """Whether it is certain that the other side never saw the request: a write may then be sent again."""


class Throttled(Transient):
    """The other side asks to slow down."""


class Permanent(RelayError):
    """Trying again changes nothing."""


class CredentialsRefused(Permanent):
    """The ERP refuses the login; only new credentials help."""


class Unsupported(Permanent):
    """This system, version or permission cannot do it."""


class UnexpectedReply(Permanent):
    """The answer is not what its protocol promises: HTML, half a body, other JSON."""


class RecordRejected(Permanent):
    """One record cannot be read; its neighbours can.

    `field` names the source field, `remote_id` the record when it could be told.
    """

    def __init__(self, message: str, *, field: str = "", remote_id: str = "") -> None:
        super().__init__(message)
        self.field = field
        self.remote_id = remote_id


class LeaseLost(RelayError):
    """Another worker owns this row now: stop, change nothing."""


class Stuck(RelayError):
    """Something does not end although it was told to long ago: only the end of the process ends it."""


class UserError(RelayError):
    """A person gave something wrong; the message says what, where and what to do."""


class NotFound(UserError):
    """No such customer, connection, endpoint or delivery."""


class AlreadyThere(UserError):
    """The name is taken, or somebody else was first."""


class KeyTrouble(UserError):
    """A master key is missing or wrong, or a sealed value was changed."""
