"""Notices for operators, on their way to their topic."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = """
-- Without foreign keys: a notice outlives the endpoint or connection that it tells of.
CREATE TABLE notices (
    position       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id             text NOT NULL UNIQUE,
    type           text NOT NULL,
    customer_id    text NOT NULL,
    subject_id     text NOT NULL,
    subject_name   text NOT NULL,
    occurred_at    timestamptz NOT NULL,
    reason         text NOT NULL DEFAULT '',
    failing_since  timestamptz,
    after          interval,
    created_at     timestamptz NOT NULL DEFAULT now(),
    taken_until    timestamptz,
    told_at        timestamptz
);
CREATE INDEX notices_untold ON notices (position) WHERE told_at IS NULL;
CREATE INDEX notices_untold_subject ON notices (subject_id) WHERE told_at IS NULL;
CREATE INDEX notices_told ON notices (told_at) WHERE told_at IS NOT NULL;
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("relay migrates forward only: restore a backup instead")
