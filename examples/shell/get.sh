#!/bin/sh
# Takes one task out of a queue of Millrace and prints its message; fails when there is none. amqp-get acknowledges as it
# takes: should what reads the output fail, the task is lost. Needs amqp-tools.
set -eu
exec amqp-get --url "${AMQP_URL:-amqp://127.0.0.1}" --queue millrace.reports
