"""An example consumer of relay's topic: prints the change events of all purchase orders, from the oldest kept one on.

    python consumer.py BROKER:PORT [TOPIC]

It needs aiokafka, and any Kafka client does as well. A repeat has the event id of what was seen before; production
remembers ids, or the last sequence of each order, where a restart does not lose them.
"""

import asyncio
import json
import sys

from aiokafka import AIOKafkaConsumer

TOPIC = "relay.purchase-orders.changes.v1"


async def consume(broker: str, topic: str) -> None:
    """Print every event once, one a line, until Ctrl-C."""
    seen: set[str] = set()
    async with AIOKafkaConsumer(topic, bootstrap_servers=broker, auto_offset_reset="earliest") as messages:
        async for message in messages:
            headers = {name: value.decode() for name, value in message.headers}
            if headers["ce_id"] in seen:
                continue
            seen.add(headers["ce_id"])
            event = json.loads(message.value)["data"]
            sys.stdout.write(f"{headers['ce_type']}  order {event['remote_id']}  sequence {event['sequence']}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    try:
        asyncio.run(consume(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else TOPIC))  # noqa: PLR2004
    except IndexError:
        sys.exit("usage: python consumer.py BROKER:PORT [TOPIC]")
    except KeyboardInterrupt:
        pass
