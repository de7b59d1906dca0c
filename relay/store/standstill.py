"""Sessions of processes that stand still: stopped, suspended, or cut off from the database without its noticing.

PostgreSQL itself ends a transaction that waits for its process between two statements (`opened` says after how long).
It does not where it waits within one: a statement that was prepared and is not yet bound, a COPY whose rows have not
come, an answer that nobody reads. So the processes that are alive look for those, because the rows that such a session
has locked are the rows that whoever took over needs.
"""

from datetime import timedelta

from relay.store.database import PROGRAM, Database

MOST = timedelta(seconds=60)
"""Longer than any statement may take (`command_timeout`): an answer that is still not read then is read by nobody."""

# Sessions of this role alone: only those may it end, and only of those does it see what they wait for.
END = """
    SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name = $1
      AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
      AND (wait_event = 'ClientRead' AND state_change < now() - $2::interval
           OR wait_event = 'ClientWrite' AND state_change < now() - $3::interval)
"""


class Standstills:
    """Sessions of relay in whose transaction the process has not gone on for `patience`."""

    def __init__(self, database: Database, patience: timedelta) -> None:
        self._database, self._patience = database, patience

    async def end(self) -> int:
        """End them, and with them their locks; how many. Raises Unavailable."""
        async with self._database.session() as connection:
            return len(await connection.fetch(END, PROGRAM, self._patience, max(MOST, self._patience)))
