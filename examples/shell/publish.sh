#!/bin/sh
# Puts one task into a queue of Millrace: sh publish.sh PAYLOAD, where PAYLOAD is JSON. A Millrace worker must have used
# the queue before: amqp-publish does not tell when a message has nowhere to go. Needs amqp-tools.
set -eu
printf '{"task": "report.build", "payload": %s}' "${1:-null}" |
  amqp-publish --url "${AMQP_URL:-amqp://127.0.0.1}" --routing-key millrace.reports \
    --persistent --content-type application/json
