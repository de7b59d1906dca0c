"""Editions: which mapping an order was read with, and how what a mapping changed is told."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE connections RENAME COLUMN mapping_announce TO mapping_retold;
-- The version of its connector's rules.
ALTER TABLE connections ADD COLUMN rules integer NOT NULL DEFAULT 1;
ALTER TABLE mapping_versions RENAME COLUMN announce TO retold;
ALTER TABLE snapshots
    ADD COLUMN rules            integer NOT NULL DEFAULT 1,
    ADD COLUMN mapping_version  integer NOT NULL DEFAULT 0;
UPDATE snapshots AS s SET mapping_version = c.mapping_version
    FROM connections AS c WHERE c.id = s.connection_id AND c.mapping_version > 0
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("relay migrates forward only: restore a backup instead")
