"""What people read: orders by their latest change and by their id, and each connection's events as one log."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

CHANGES = (
    """
    CREATE FUNCTION relay_order_id(connection_id text, remote_id text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN 'po_' || left(encode(sha256(convert_to(connection_id || '|' || remote_id, 'UTF8')), 'hex'), 32)
    """,
    "CREATE INDEX snapshots_order_id ON snapshots (relay_order_id(connection_id, remote_id))",
    "CREATE INDEX snapshots_changed ON snapshots (connection_id, changed_at, remote_id)",
    "CREATE INDEX outbox_log ON outbox (connection_id, position) WHERE stream = 'changes'",
    """
    -- Up to where a connection's events are no longer kept: whoever reads from before that is told so.
    CREATE TABLE forgotten (
        connection_id  text PRIMARY KEY REFERENCES connections ON DELETE CASCADE,
        position       bigint NOT NULL
    )
    """,
    "CREATE INDEX connections_name ON connections (name)",
    "CREATE INDEX connections_full_name ON connections ((customer_id || '/' || name))",
    "CREATE INDEX endpoints_name ON endpoints (name)",
    "CREATE INDEX endpoints_full_name ON endpoints ((customer_id || '/' || name))",
)


def upgrade() -> None:
    for statement in CHANGES:
        op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("relay migrates forward only: restore a backup instead")
