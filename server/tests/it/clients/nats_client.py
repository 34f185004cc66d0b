"""Prints the events of one tenant. Arguments: NATS' URL, the tenant."""

import asyncio
import json
import sys

import nats


async def main():
    client = await nats.connect(sys.argv[1])
    subscription = await client.jetstream().subscribe(f"everline.evt.*.{sys.argv[2]}.>", ordered_consumer=True)
    print("subscribed", flush=True)
    async for message in subscription.messages:
        headers = message.headers or {}
        event = {"subject": message.subject, "type": headers.get("ce-type"), "stream": headers.get("ce-subject")}
        print(json.dumps(event), flush=True)


asyncio.run(main())
