"""Replays: events that are sent again to one endpoint."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE replays (
    id           text PRIMARY KEY,
    endpoint_id  text NOT NULL REFERENCES endpoints ON DELETE CASCADE,
    criteria     json NOT NULL,
    state        text NOT NULL DEFAULT 'running',
    per_second   real NOT NULL,
    -- All that matched up to here has been put in line; what came after `until` was sent anyway.
    reached      bigint NOT NULL DEFAULT 0,
    until        bigint NOT NULL,
    found        bigint NOT NULL,
    done         bigint NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT now(),
    ended_at     timestamptz
);
CREATE INDEX replays_endpoint ON replays (endpoint_id, created_at);

-- What a delivery was before it was to be sent again; null: there was none.
ALTER TABLE deliveries ADD replayed_from text;
CREATE INDEX deliveries_replay ON deliveries (replay_id, state) WHERE replay_id IS NOT NULL;
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("relay migrates forward only: restore a backup instead")
