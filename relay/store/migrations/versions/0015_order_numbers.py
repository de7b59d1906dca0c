"""Orders are found by the number that people call them by."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# PostgreSQL reads no JSON in which a text holds the character zero, wherever it is.
CHANGES = (
    "ALTER TABLE snapshots ADD COLUMN number text",
    r"""
    UPDATE snapshots SET number = left(read.number, 200)
    FROM (SELECT connection_id, remote_id,
                 replace(convert_from(tree, 'UTF8'), '\u0000', '\ufffd')::json ->> 'number' AS number FROM snapshots
         ) AS read
    WHERE snapshots.connection_id = read.connection_id AND snapshots.remote_id = read.remote_id
      AND read.number IS NOT NULL
    """,
    "CREATE INDEX snapshots_number ON snapshots (number, connection_id)",
)


def upgrade() -> None:
    for statement in CHANGES:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("relay migrates forward only: restore a backup instead")
