"""The straight line: customers, connections, snapshots, outbox, endpoints, deliveries, attempts."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE workers (
    id       text PRIMARY KEY,
    seen_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE customers (
    id           text PRIMARY KEY,
    wrapped_key  bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE connections (
    id                text PRIMARY KEY,
    customer_id       text NOT NULL REFERENCES customers,
    name              text NOT NULL,
    connector         text NOT NULL,
    settings          json NOT NULL,
    sealed            bytea NOT NULL,
    state             text NOT NULL DEFAULT 'active',
    problem           text,
    notices           text[] NOT NULL DEFAULT '{}',
    poll_every        interval NOT NULL,
    reconcile_every   interval NOT NULL,
    cursor            text,
    failures          integer NOT NULL DEFAULT 0,
    due_at            timestamptz NOT NULL DEFAULT now(),
    reconcile_due_at  timestamptz NOT NULL DEFAULT now(),
    polled_at         timestamptz,
    synced_at         timestamptz,
    version           integer NOT NULL DEFAULT 1,
    created_at        timestamptz NOT NULL DEFAULT now(),
    lease_owner       text,
    lease_epoch       bigint NOT NULL DEFAULT 0,
    lease_until       timestamptz,
    UNIQUE (customer_id, name)
);
CREATE INDEX connections_lease ON connections (lease_until NULLS FIRST);
CREATE INDEX connections_owner ON connections (lease_owner);

CREATE TABLE snapshots (
    connection_id   text NOT NULL REFERENCES connections ON DELETE CASCADE,
    remote_id       text NOT NULL,
    tree            bytea NOT NULL,
    hash            text NOT NULL,
    sequence        integer NOT NULL,
    deleted         boolean NOT NULL,
    missing_passes  integer NOT NULL DEFAULT 0,
    first_seen_at   timestamptz NOT NULL,
    changed_at      timestamptz NOT NULL,
    PRIMARY KEY (connection_id, remote_id)
);

-- Not a column of snapshots: admission and polling must never wait for each other's rows.
CREATE TABLE admitted (
    connection_id  text NOT NULL REFERENCES connections ON DELETE CASCADE,
    remote_id      text NOT NULL,
    sequence       integer NOT NULL,
    PRIMARY KEY (connection_id, remote_id)
);

CREATE TABLE outbox (
    position       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id       text NOT NULL UNIQUE,
    stream         text NOT NULL,
    state          text NOT NULL DEFAULT 'pending',
    customer_id    text NOT NULL,
    connection_id  text NOT NULL REFERENCES connections ON DELETE CASCADE,
    remote_id      text NOT NULL,
    sequence       integer NOT NULL,
    type           text NOT NULL,
    occurred_at    timestamptz NOT NULL,
    body           bytea NOT NULL,
    problem        text,
    published_at   timestamptz,
    publishes      integer NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_pending ON outbox (connection_id, position) WHERE state = 'pending';
CREATE INDEX outbox_published ON outbox (connection_id, published_at) WHERE state = 'published';
CREATE INDEX outbox_order ON outbox (connection_id, remote_id, sequence);

CREATE TABLE endpoints (
    id           text PRIMARY KEY,
    customer_id  text NOT NULL REFERENCES customers,
    name         text NOT NULL,
    url          text NOT NULL,
    sealed       bytea NOT NULL,
    state        text NOT NULL DEFAULT 'active',
    problem      text,
    event_types  text[] NOT NULL DEFAULT '{}',
    connections  text[] NOT NULL DEFAULT '{}',
    at_once      integer NOT NULL,
    deadline     interval NOT NULL,
    version      integer NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL DEFAULT now(),
    lease_owner  text,
    lease_epoch  bigint NOT NULL DEFAULT 0,
    lease_until  timestamptz,
    UNIQUE (customer_id, name)
);
CREATE INDEX endpoints_lease ON endpoints (lease_until NULLS FIRST) WHERE state = 'active';
CREATE INDEX endpoints_owner ON endpoints (lease_owner);

CREATE TABLE deliveries (
    id           text PRIMARY KEY,
    endpoint_id  text NOT NULL REFERENCES endpoints ON DELETE CASCADE,
    position     bigint NOT NULL REFERENCES outbox ON DELETE CASCADE,
    lane         text NOT NULL,
    state        text NOT NULL DEFAULT 'waiting',
    due_at       timestamptz,
    attempts     integer NOT NULL DEFAULT 0,
    last_status  integer,
    last_error   text,
    created_at   timestamptz NOT NULL DEFAULT now(),
    done_at      timestamptz,
    UNIQUE (endpoint_id, position)
);
CREATE INDEX deliveries_heads ON deliveries (endpoint_id, due_at, position)
    WHERE state = 'waiting' AND due_at IS NOT NULL;
CREATE INDEX deliveries_lane ON deliveries (endpoint_id, lane, position) WHERE state = 'waiting';
CREATE INDEX deliveries_position ON deliveries (position);

CREATE TABLE attempts (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id  text NOT NULL REFERENCES deliveries ON DELETE CASCADE,
    number       integer NOT NULL,
    started_at   timestamptz NOT NULL,
    seconds      real NOT NULL,
    outcome      text NOT NULL,
    status       integer,
    error        text NOT NULL,
    detail       text NOT NULL,
    excerpt      bytea NOT NULL
);
CREATE INDEX attempts_delivery ON attempts (delivery_id, number);
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("relay migrates forward only: restore a backup instead")
