"""The delivery engine: options, access and health of endpoints, numbers of deliveries, attempts by day."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

CHANGES = """
ALTER TABLE endpoints
    ADD options json NOT NULL DEFAULT '{}',
    ADD access bytea NOT NULL DEFAULT '',
    ADD public_keys text[] NOT NULL DEFAULT '{}',
    ADD public_keys_until timestamptz[] NOT NULL DEFAULT '{}',
    ADD pull_token bytea UNIQUE,
    ADD verified_at timestamptz,
    ADD proof text NOT NULL DEFAULT '',
    ADD allowed_per_minute integer,
    ADD failing_since timestamptz,
    ADD noticed interval NOT NULL DEFAULT '0',
    ADD suspended_at timestamptz;

DROP INDEX endpoints_lease;
CREATE INDEX endpoints_lease ON endpoints (lease_until NULLS FIRST) WHERE state IN ('active', 'suspended');

-- Not a column of endpoints: admission and the renewing of leases must never wait for each other's rows.
CREATE TABLE endpoint_numbers (
    endpoint_id  text PRIMARY KEY REFERENCES endpoints ON DELETE CASCADE,
    last         bigint NOT NULL
);

ALTER TABLE deliveries
    ADD number bigint,
    ADD replay_id text;
UPDATE deliveries AS d SET number = numbered.number
FROM (SELECT id, row_number() OVER (PARTITION BY endpoint_id ORDER BY position) AS number FROM deliveries) AS numbered
WHERE d.id = numbered.id;
INSERT INTO endpoint_numbers
SELECT id, coalesce((SELECT max(number) FROM deliveries WHERE endpoint_id = endpoints.id), 0) FROM endpoints;
ALTER TABLE deliveries ALTER number SET NOT NULL;
CREATE UNIQUE INDEX deliveries_number ON deliveries (endpoint_id, number);

-- First attempts and repeated ones apart: ten thousand retries that are due must not hide what is new.
DROP INDEX deliveries_heads;
CREATE INDEX deliveries_heads ON deliveries (endpoint_id, least(attempts, 1), due_at, position)
    WHERE state = 'waiting' AND due_at IS NOT NULL;

-- Without a foreign key: a day of attempts is forgotten by dropping its partition, and recording looks nothing up.
ALTER TABLE attempts RENAME TO attempts_before;
ALTER INDEX attempts_delivery RENAME TO attempts_before_delivery;
CREATE TABLE attempts (
    delivery_id      text NOT NULL,
    number           integer NOT NULL,
    started_at       timestamptz NOT NULL,
    seconds          real NOT NULL,
    outcome          text NOT NULL,
    status           integer,
    error            text NOT NULL,
    detail           text NOT NULL,
    excerpt          bytea NOT NULL,
    address          text NOT NULL DEFAULT '',
    resolve_seconds  real NOT NULL DEFAULT 0,
    answer_seconds   real
) PARTITION BY RANGE (started_at);
CREATE INDEX attempts_delivery ON attempts (delivery_id, started_at);
CREATE TABLE attempts_other PARTITION OF attempts DEFAULT;
INSERT INTO attempts SELECT delivery_id, number, started_at, seconds, outcome, status, error, detail, excerpt
FROM attempts_before;
DROP TABLE attempts_before;
"""


def upgrade() -> None:
    for statement in CHANGES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("relay migrates forward only: restore a backup instead")
