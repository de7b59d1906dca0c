"""The one place where asyncpg's errors become ours, and where a URL or a text is made fit for PostgreSQL."""

import asyncio
from urllib.parse import urlsplit

import asyncpg

from relay.domain.errors import Unavailable, UserError

SCHEMES = ("postgresql", "postgres")


class mapped:  # noqa: N801 - reads as a word: `with mapped()`
    """Raise our error instead of asyncpg's. No message carries a password; errors that a bug makes pass as they are."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        match error:
            case asyncpg.ClientConfigurationError():
                raise UserError(f"RELAY_DATABASE__URL cannot be used: {error}") from None
            case asyncpg.InvalidAuthorizationSpecificationError():
                raise Unavailable("PostgreSQL refuses the login of RELAY_DATABASE__URL") from None
            case asyncpg.InvalidCatalogNameError():
                raise Unavailable("the database named in RELAY_DATABASE__URL does not exist") from None
            case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError():
                raise Unavailable("the database has no relay tables, or old ones: run `relay migrate`") from error
            case asyncpg.ForeignKeyViolationError(constraint_name=str(name)) if name.endswith("_data_key"):
                raise UserError("this customer's data key was exchanged at the same time: try again") from None
            case (
                asyncpg.PostgresConnectionError()
                | asyncpg.InterfaceError()
                | asyncpg.IdleInTransactionSessionTimeoutError()
                # A statement was cancelled, and the connection that it leaves is in no state for a rollback.
                | asyncpg.InternalClientError()
            ):
                raise Unavailable(f"PostgreSQL went away: {type(error).__name__}") from error
            case (
                asyncpg.OperatorInterventionError()
                | asyncpg.InsufficientResourcesError()
                | asyncpg.ReadOnlySQLTransactionError()
            ):
                raise Unavailable(f"PostgreSQL takes no work now: {type(error).__name__}") from error
            case OSError():
                raise Unavailable(
                    "PostgreSQL does not answer: is it running, and is RELAY_DATABASE__URL right?"
                ) from error
            case _:
                return


class cancelled_is_cancelled:  # noqa: N801 - reads as a word: `with cancelled_is_cancelled()`
    """Whoever is cancelled hears of that, and not of the rollback or the release that failed because of it.

    It would take that for a database that went away, try again, and never end.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        lost = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
        if isinstance(error, lost) and (task := asyncio.current_task()) and task.cancelling():
            raise asyncio.CancelledError from error


def checked(url: str) -> str:
    """`url`, when it is one of PostgreSQL.

    Raises:
        UserError: it is not; the message shows nothing of it, because half a password may stand anywhere in it.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise UserError(
            "RELAY_DATABASE__URL cannot be read: write special characters of the password as %40, %2F and so on"
        ) from None
    if parts.scheme not in SCHEMES:
        raise UserError("RELAY_DATABASE__URL must begin with postgresql://")
    return url


def storable(text: str) -> str:
    """`text` from outside as PostgreSQL can hold it: what it cannot is shown as the replacement character."""
    return text.replace("\x00", "\ufffd").encode(errors="replace").decode()
