"""Control: what people do to relay, without a word about how they ask. The command line and the HTTP API call it."""

from relay.control.connection_views import ConnectionAdded, ConnectionView, FirstLook, ReadingView, RejectedView
from relay.control.connections import POLL_EVERY, RECONCILE_EVERY
from relay.control.delivery_views import AttemptView, DeliveryView
from relay.control.endpoint_views import EndpointAdded, EndpointView, KeyView, SecretRotated
from relay.control.explain import ConnectionTold, DeliveryTold, EventTold, Explanation, SnapshotTold
from relay.control.forms import ConnectorForm, FormField, connector_form, form_fields
from relay.control.given import connector_named, mapping_given, settings_given
from relay.control.key_views import KeyProblem, KeysChecked, KeysRotated, KeysShown, MasterKeyView
from relay.control.keys import KeyCare
from relay.control.operations import Control
from relay.control.replay import Asked, EventSeen, ReplayFound, Replaying, ReplayView
from relay.control.sync import SyncView
from relay.control.testing import EndpointTested, TypeTested
from relay.control.views import View

__all__ = [
    "POLL_EVERY",
    "RECONCILE_EVERY",
    "Asked",
    "AttemptView",
    "ConnectionAdded",
    "ConnectionTold",
    "ConnectionView",
    "ConnectorForm",
    "Control",
    "DeliveryTold",
    "DeliveryView",
    "EndpointAdded",
    "EndpointTested",
    "EndpointView",
    "EventSeen",
    "EventTold",
    "Explanation",
    "FirstLook",
    "FormField",
    "KeyCare",
    "KeyProblem",
    "KeyView",
    "KeysChecked",
    "KeysRotated",
    "KeysShown",
    "MasterKeyView",
    "ReadingView",
    "RejectedView",
    "ReplayFound",
    "ReplayView",
    "Replaying",
    "SecretRotated",
    "SnapshotTold",
    "SyncView",
    "TypeTested",
    "View",
    "connector_form",
    "connector_named",
    "form_fields",
    "mapping_given",
    "settings_given",
]
