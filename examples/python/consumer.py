"""Takes tasks out of a queue of Millrace and runs them: python3 consumer.py [COUNT]; without COUNT until Ctrl-C."""

import json
import os
import sys

import pika

QUEUE = "millrace.reports"

remaining = int(sys.argv[1]) if len(sys.argv) > 1 else None
url = os.environ.get("AMQP_URL", "amqp://127.0.0.1")


def build_report(payload):
    print(f"report of {payload['month']}", flush=True)


HANDLERS = {"report.build": build_report}

connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.basic_qos(prefetch_count=20)

for method, properties, body in channel.consume(QUEUE):
    message = json.loads(body)
    HANDLERS[message["task"]](message["payload"])
    # Only now that the work is done: until then the broker gives the task to another, should this process die.
    channel.basic_ack(method.delivery_tag)
    if remaining is not None:
        remaining -= 1
        if remaining == 0:
            break

# Gives back what was fetched ahead.
channel.cancel()
connection.close()
