"""Master keys and data keys, as `relay.control` has them, over HTTP."""

from relay.client.calls import Calls
from relay.control.key_views import KeysChecked, KeysRotated, KeysShown


class KeyCalls(Calls):
    """What administrators do with keys. No key is in an answer."""

    async def keys(self) -> KeysShown:
        """Master keys, what each has wrapped, and which are missing."""
        return await self._get(KeysShown, "/v1/keys")

    async def check_keys(self) -> KeysChecked:
        """Open every data key and every sealed value."""
        return await self._post(KeysChecked, "/v1/keys/check")

    async def rotate_keys(self, *, data_keys: bool, customer: str | None = None) -> KeysRotated:
        """Wrap every data key anew, or replace data keys; asked again it goes on where it was."""
        return await self._post(KeysRotated, "/v1/keys/rotate", {"data_keys": data_keys, "customer": customer})
