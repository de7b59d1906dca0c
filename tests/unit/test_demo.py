"""The demo keeps to itself."""

from relay.demo.show import on_its_own
from relay.settings import Settings


def test_the_demo_leaves_a_named_database_broker_and_master_key_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("RELAY_DATABASE__URL", "postgresql://relay:secret@db.example/relay")
    monkeypatch.setenv("RELAY_KAFKA__BOOTSTRAP", "kafka.example:9092")
    monkeypatch.setenv("RELAY_VAULT__MASTER_KEY_FILE", "/keys/master.key")
    monkeypatch.setenv("RELAY_LOG__LEVEL", "debug")
    own = on_its_own(Settings(), tmp_path)
    assert (own.database.url, own.kafka.bootstrap, own.vault.master_key_file) == (None, None, None)
    assert (own.data, own.log.level) == (tmp_path, "debug")
