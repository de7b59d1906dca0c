"""Callers of the control API: operator keys, tokens of connections, the audit log, and answers that are given again."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE operator_keys (
    id          text PRIMARY KEY,
    name        text NOT NULL,
    scope       text NOT NULL,
    digest      bytea NOT NULL UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz
);
CREATE UNIQUE INDEX operator_keys_name ON operator_keys (name) WHERE revoked_at IS NULL;

ALTER TABLE connections ADD token_digest bytea;
CREATE UNIQUE INDEX connections_token ON connections (token_digest) WHERE token_digest IS NOT NULL;

-- Written before a change begins; without foreign keys, because it outlives whatever it tells of.
CREATE TABLE audit (
    position     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at           timestamptz NOT NULL DEFAULT now(),
    request_id   text NOT NULL,
    caller_kind  text NOT NULL,
    caller_id    text NOT NULL,
    caller_name  text NOT NULL,
    address      text NOT NULL,
    action       text NOT NULL,
    subject      text,
    customer_id  text
);
CREATE INDEX audit_subject ON audit (subject, position);
CREATE INDEX audit_caller ON audit (caller_id, position);

-- Written when the change has ended; a change without one broke off, and nobody knows how far it came.
CREATE TABLE audit_outcomes (
    position     bigint PRIMARY KEY REFERENCES audit,
    at           timestamptz NOT NULL DEFAULT now(),
    status       int NOT NULL,
    subject      text,
    customer_id  text
);
CREATE INDEX audit_outcomes_subject ON audit_outcomes (subject, position) WHERE subject IS NOT NULL;

CREATE FUNCTION audit_stays() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit log is only added to' USING ERRCODE = 'insufficient_privilege'; END $$;
CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_stays();
CREATE TRIGGER audit_outcomes_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_outcomes
    FOR EACH STATEMENT EXECUTE FUNCTION audit_stays();

-- One row per idempotency key, under a digest of it: begun, or done with the sealed answer.
CREATE TABLE idempotency (
    digest       bytea PRIMARY KEY,
    fingerprint  bytea NOT NULL,
    begun_at     timestamptz NOT NULL DEFAULT now(),
    answer       bytea
);
CREATE INDEX idempotency_begun ON idempotency (begun_at);
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    raise NotImplementedError("relay migrates forward only: restore a backup instead")
