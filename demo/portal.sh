#!/bin/bash
# Start the portal: bring its database up to date, fill it with its sample data once, serve.
# It takes secrets from its environment alone, so they are read from their files here, and stand
# in no container's settings.
set -eu

secrets=${SECRETS:-/run/secrets}
filled=${STATE:-/var/lib/portal}/filled

POSTGRES_PASSWORD=$(cat "$secrets/db_password")
WEBHOOK_SECRET=$(cat "$secrets/webhook_secret")
export POSTGRES_PASSWORD WEBHOOK_SECRET

python -m app.db_tool migrate
if [ ! -e "$filled" ]; then
  python -m app.db_tool seed sample_data.sql
  touch "$filled"
fi
exec uvicorn app.main:app --host 0.0.0.0 --port 5050
