"""Syncs: orders that are read beside the polls."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE syncs (
    id             text PRIMARY KEY,
    connection_id  text NOT NULL REFERENCES connections ON DELETE CASCADE,
    kind           text NOT NULL,
    announce       text NOT NULL,
    -- The first day of its window; null: everything.
    begin_on       date,
    state          text NOT NULL DEFAULT 'waiting',
    cursor         text,
    total          integer,
    read           integer NOT NULL DEFAULT 0,
    told           integer NOT NULL DEFAULT 0,
    rejected       integer NOT NULL DEFAULT 0,
    failures       integer NOT NULL DEFAULT 0,
    problem        text,
    created_at     timestamptz NOT NULL DEFAULT now(),
    started_at     timestamptz,
    moved_at       timestamptz,
    ended_at       timestamptz
);
-- One at a time.
CREATE UNIQUE INDEX syncs_open ON syncs (connection_id) WHERE ended_at IS NULL;
CREATE INDEX syncs_connection ON syncs (connection_id, created_at);
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("relay migrates forward only: restore a backup instead")
