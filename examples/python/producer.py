"""Puts tasks into a queue of Millrace: python3 producer.py [COUNT]."""

import json
import os
import sys

import pika

QUEUE = "millrace.reports"

count = int(sys.argv[1]) if len(sys.argv) > 1 else 1
url = os.environ.get("AMQP_URL", "amqp://127.0.0.1")

connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
# Each publish returns when the broker has the message on disk, and raises when it has no such queue.
channel.confirm_delivery()

properties = pika.BasicProperties(
    content_type="application/json",
    delivery_mode=2,  # persistent
)
for number in range(count):
    message = {"task": "report.build", "payload": {"month": f"2026-{number % 12 + 1:02}", "number": number}}
    try:
        channel.basic_publish("", QUEUE, json.dumps(message).encode(), properties, mandatory=True)
    except pika.exceptions.UnroutableError:
        sys.exit(f"there is no queue {QUEUE}: start a Millrace worker of it first")

print(f"{count} tasks are in the queue")
connection.close()
