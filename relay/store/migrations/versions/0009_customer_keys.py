"""Customers' data keys get versions; each sealed value refers to the one that it is sealed with."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE customer_keys (
    customer_id  text NOT NULL REFERENCES customers ON DELETE CASCADE,
    version      integer NOT NULL,
    wrapped      bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (customer_id, version)
);
INSERT INTO customer_keys SELECT id, 1, wrapped_key, created_at FROM customers;
ALTER TABLE customers DROP COLUMN wrapped_key;

-- One row per rotation of all customers' data keys, so that one that broke off goes on where it was.
CREATE TABLE key_rotations (
    started_at   timestamptz PRIMARY KEY DEFAULT clock_timestamp(),
    finished_at  timestamptz
);
"""
# From the first bytes, see relay/vault/envelope.py: 1 is a value from before versions; 2 is followed by the version.
# PostgreSQL then removes no key that something is sealed with, and stores nothing sealed with a key that is gone.
VALUES = (("connections", "sealed"), ("endpoints", "sealed"), ("endpoints", "access"))
NAMED = """
ALTER TABLE {table} ADD COLUMN {value}_key integer GENERATED ALWAYS AS (
    CASE WHEN octet_length({value}) < 29 THEN NULL
         WHEN get_byte({value}, 0) = 1 THEN 1
         WHEN get_byte({value}, 0) = 2 THEN get_byte({value}, 1) * 256 + get_byte({value}, 2) END
) STORED,
ADD CONSTRAINT {table}_{value}_data_key FOREIGN KEY (customer_id, {value}_key) REFERENCES customer_keys
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
    for table, value in VALUES:
        op.execute(NAMED.format(table=table, value=value))


def downgrade() -> None:
    raise NotImplementedError("relay migrates forward only: restore a backup instead")
