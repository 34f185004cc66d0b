"""Follows the events of Everline from outside: one line of JSON for each, in a file.

It may be killed at any moment and started again: every event is in the file once, and in order within its partition (after a
failure of the broker in the order in which the stream has them; `position` tells).
"""

import argparse
import asyncio
import json
import os

import nats
from nats.errors import TimeoutError as NothingNew
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy


def open_log(path):
    """The file to append to, and the ids of the events that are in it."""
    file = open(path, "a+b")
    file.seek(0)
    seen, end = set(), 0
    for line in file:
        if not line.endswith(b"\n"):  # killed in the middle of it: the event will come again
            break
        seen.add(json.loads(line)["id"])
        end += len(line)
    file.truncate(end)
    return file, seen


async def main(options):
    file, seen = open_log(options.file)
    connection = await nats.connect(options.nats, max_reconnect_attempts=-1)
    consumer = await connection.jetstream().pull_subscribe(
        options.subject,
        # The server keeps the place under this name, while nobody listens, too.
        durable=options.name,
        stream="EVERLINE_EVENTS",
        config=ConsumerConfig(
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            # One at a time keeps the order: otherwise what was delivered and not acknowledged before a crash comes again
            # after what follows it. Who needs no order sets more, and fetches more at once.
            max_ack_pending=1,
            ack_wait=options.ack_wait,
        ),
    )
    while True:
        try:
            [message] = await consumer.fetch(1, timeout=30)
        except NothingNew:
            continue
        # A CloudEvent in binary mode: the attributes are headers, the body is the data.
        headers = message.headers
        # Published at least once: after a failure of the broker a stretch may come again.
        if headers["ce-id"] not in seen:
            event = {
                "id": headers["ce-id"],
                "type": headers["ce-type"],
                "stream": headers["ce-subject"],
                "version": int(headers["ce-version"]),
                "position": headers["ce-position"],
                "time": headers["ce-time"],
                "data": json.loads(message.data),
            }
            file.write(json.dumps(event).encode() + b"\n")
            # Acknowledged only when it is safe: a crash in between makes it come again, not get lost.
            file.flush()
            if options.sync:
                os.fsync(file.fileno())
            seen.add(event["id"])
        await message.ack()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="where the events are appended")
    parser.add_argument("--nats", default="nats://127.0.0.1:4222", help="URL of the NATS server")
    parser.add_argument("--subject", default="everline.evt.*.default.>", help="which events")
    parser.add_argument("--name", default="subscriber-example", help="name of the durable consumer; one per subscriber")
    parser.add_argument("--ack-wait", type=float, default=10, help="seconds after which an event comes again")
    parser.add_argument("--sync", action="store_true", help="let nothing be lost in a power cut either")
    asyncio.run(main(parser.parse_args()))
