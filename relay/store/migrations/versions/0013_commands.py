"""Commands: what is to be written to ERPs, and the original bytes of messages that become dead letters."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE commands (
    -- Made of the connection and the sender's own id: the same command twice is one row.
    id             text PRIMARY KEY,
    position       bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    connection_id  text NOT NULL REFERENCES connections ON DELETE CASCADE,
    customer_id    text NOT NULL,
    command_id     text NOT NULL,
    -- Null of one whose type is none.
    type           text,
    remote_id      text,
    lane           text NOT NULL,
    state          text NOT NULL,
    outcome        text,
    dry_run        boolean NOT NULL DEFAULT false,
    -- The command as it was checked; of a refused one what could be read.
    body           bytea NOT NULL,
    digest         bytea NOT NULL,
    source         text NOT NULL,
    caller         text NOT NULL DEFAULT '',
    -- The message as it came; null when it did not come from a topic.
    raw            bytea,
    origin         bytea,
    -- Set for the first open command of its lane only.
    due_at         timestamptz,
    attempts       integer NOT NULL DEFAULT 0,
    problem        text,
    expires_at     timestamptz NOT NULL,
    sent_at        timestamptz,
    before         bytea,
    result         bytea,
    created_at     timestamptz NOT NULL DEFAULT now(),
    done_at        timestamptz,
    UNIQUE (connection_id, command_id)
);
CREATE INDEX commands_heads ON commands (connection_id, due_at, position) WHERE due_at IS NOT NULL;
CREATE INDEX commands_doubt ON commands (connection_id, position) WHERE state = 'sending';
CREATE INDEX commands_lane ON commands (connection_id, lane, position) WHERE state <> 'done';
CREATE INDEX commands_overdue ON commands (expires_at) WHERE state = 'waiting';
CREATE INDEX commands_done ON commands (done_at) WHERE state = 'done';
CREATE INDEX commands_connection ON commands (connection_id, position);
CREATE INDEX commands_order ON commands (connection_id, remote_id, position);
-- Of a dead letter: the topic, place, key and headers that its body came with.
ALTER TABLE outbox ADD COLUMN origin bytea;
-- The public key that commands from Kafka are signed with.
ALTER TABLE connections ADD COLUMN command_key text
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("relay migrates forward only: restore a backup instead")
