"""Commands whose outcome nobody knows are found at once, among however many."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX commands_unknown ON commands (done_at) WHERE outcome = 'unknown'")


def downgrade() -> None:
    raise NotImplementedError("relay migrates forward only: restore a backup instead")
