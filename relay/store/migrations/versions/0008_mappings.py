"""Mappings: what people override of a connector's rules, in versions. Settings that were a mapping become version 1."""

import json
from typing import Any

from alembic import op
from sqlalchemy import text

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE connections
    ADD COLUMN mapping          json NOT NULL DEFAULT '{}',
    ADD COLUMN mapping_version  integer NOT NULL DEFAULT 0,
    ADD COLUMN mapping_announce text NOT NULL DEFAULT 'mapping_changed';

CREATE TABLE mapping_versions (
    connection_id  text NOT NULL REFERENCES connections ON DELETE CASCADE,
    number         integer NOT NULL,
    overrides      json NOT NULL,
    announce       text NOT NULL,
    -- The version that this one brought back.
    reverts_to     integer,
    made_by        text NOT NULL,
    made_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (connection_id, number)
);

CREATE FUNCTION mapping_versions_stay() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN RAISE EXCEPTION ''a version of a mapping is never changed: add another''; END';

CREATE TRIGGER mapping_versions_stay BEFORE UPDATE ON mapping_versions
    FOR EACH ROW EXECUTE FUNCTION mapping_versions_stay()
"""

MOVED = {"custom_fields": "fields", "line_custom_fields": "line_fields"}
"""Settings of an earlier version by the part of the mapping that they have become; the others keep their names."""
PARTS = ("currencies", "units", "decimals", *MOVED)
TRYTON_OWN = {"fields": ("reference", "description"), "line_fields": ("note",)}
"""What Tryton passed through unless the setting named other fields."""


def upgrade() -> None:
    for statement in TABLES.split(";\n\n"):
        op.execute(statement)
    bind = op.get_bind()
    for row in bind.execute(text("SELECT id, connector, settings::text AS settings FROM connections")).all():
        settings, mapping = moved(row.connector, json.loads(row.settings))
        if mapping:
            given = {"id": row.id, "settings": json.dumps(settings), "mapping": json.dumps(mapping)}
            bind.execute(
                text(
                    "UPDATE connections SET settings = CAST(:settings AS json), mapping = CAST(:mapping AS json),"
                    " mapping_version = 1 WHERE id = :id"
                ),
                given,
            )
            bind.execute(
                text(
                    "INSERT INTO mapping_versions (connection_id, number, overrides, announce, made_by)"
                    " VALUES (:id, 1, CAST(:mapping AS json), 'mapping_changed', 'upgrade')"
                ),
                {name: given[name] for name in ("id", "mapping")},
            )


def moved(connector: str, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings without what has become a mapping, and that mapping."""
    mapping: dict[str, Any] = {}
    for name in PARTS:
        value = settings.get(name)
        part = MOVED.get(name, name)
        if name in MOVED and isinstance(value, list):
            value = dict.fromkeys(value, "auto")
            if connector == "tryton":
                value |= {own: "omit" for own in TRYTON_OWN[part] if own not in value}
        if value:
            mapping[part] = value
    return {name: value for name, value in settings.items() if name not in PARTS}, mapping


def downgrade() -> None:
    raise NotImplementedError("relay migrates forward only: restore a backup instead")
