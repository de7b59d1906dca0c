"""Control: what people do to relay, without a word about how they ask. The command line and the HTTP API call it."""

from relay.control.forms import ConnectorForm, FormField, connector_form
from relay.control.given import connector_named, settings_given
from relay.control.operations import Control
from relay.control.views import (
    AttemptView,
    ConnectionAdded,
    ConnectionView,
    DeliveryView,
    EndpointAdded,
    EndpointView,
    FirstLook,
    KeyView,
    RejectedView,
    SecretRotated,
    View,
)

__all__ = [
    "AttemptView",
    "ConnectionAdded",
    "ConnectionView",
    "ConnectorForm",
    "Control",
    "DeliveryView",
    "EndpointAdded",
    "EndpointView",
    "FirstLook",
    "FormField",
    "KeyView",
    "RejectedView",
    "SecretRotated",
    "View",
    "connector_form",
    "connector_named",
    "settings_given",
]
