"""Alembic's entry: plain SQL migrations over asyncpg, one at a time per database."""

import asyncio

from alembic import context
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

MIGRATION_LOCK = 7_269_123
"""Advisory lock: two workers that start together migrate once."""


def _migrate(connection: Connection) -> None:
    connection.execute(text(f"SELECT pg_advisory_lock({MIGRATION_LOCK})"))
    connection.commit()
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
    connection.execute(text(f"SELECT pg_advisory_unlock({MIGRATION_LOCK})"))
    connection.commit()


async def _online() -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=context.config.attributes["connect"], poolclass=NullPool
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_migrate)
    except DBAPIError as error:
        # SQLAlchemy wraps asyncpg's errors twice; ours are made from asyncpg's.
        raise (error.orig and error.orig.__cause__) or error from None
    finally:
        await engine.dispose()


asyncio.run(_online())
