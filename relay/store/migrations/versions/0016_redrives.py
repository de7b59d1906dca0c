"""Redrives: dead letters that were sent again, so that admission knows them."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE redrives (
    id          text PRIMARY KEY,
    -- Of the message's bytes: a redrive is good for these only.
    digest      bytea NOT NULL,
    -- Until when a command may be done that had expired; null of all others.
    expires_at  timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX redrives_created ON redrives (created_at)
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("relay migrates forward only: restore a backup instead")
