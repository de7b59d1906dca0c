"""Ended syncs are found by when they ended: they are forgotten after a while."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX syncs_ended ON syncs (ended_at) WHERE ended_at IS NOT NULL")


def downgrade() -> None:
    raise NotImplementedError("relay migrates forward only: restore a backup instead")
