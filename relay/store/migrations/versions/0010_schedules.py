"""Schedules: how fast a connection is polled, when its ERP may be asked, and where its history begins."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE connections
    ADD history_from    date,
    ADD schedule        json NOT NULL DEFAULT '{}',
    ADD quiet           integer NOT NULL DEFAULT 0,
    ADD due_why         text,
    ADD compare_due_at  timestamptz;

-- Spread over a week: they are not all to be compared in the same night.
UPDATE connections SET compare_due_at = now() + random() * interval '7 days';

DROP INDEX syncs_open;
-- One that reads orders, and one poll that somebody asked for.
CREATE UNIQUE INDEX syncs_open ON syncs (connection_id, (kind = 'poll')) WHERE ended_at IS NULL;

-- What the first polls were in the middle of.
INSERT INTO syncs (id, connection_id, kind, announce)
    SELECT 'syn_' || md5(id), id, 'first', 'snapshot' FROM connections WHERE synced_at IS NULL;
UPDATE connections SET cursor = NULL WHERE synced_at IS NULL;
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("relay migrates forward only: restore a backup instead")
