#!/bin/sh
# Make the two databases at PostgreSQL's first start: one for SQLMesh's state, one for the portal.
# psql reads the passwords itself, so that they stand in no process list.
set -e

secrets=${SECRETS:-/run/secrets}
export secrets
for name in sqlmesh_password portal_password; do
  if [ ! -s "$secrets/$name" ]; then
    echo "databases: $name is missing" >&2
    exit 1
  fi
done

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 \
  --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\set sqlmesh_password `cat "$secrets/sqlmesh_password"`
\set portal_password `cat "$secrets/portal_password"`
CREATE ROLE sqlmesh LOGIN PASSWORD :'sqlmesh_password';
CREATE ROLE portal LOGIN PASSWORD :'portal_password';
CREATE DATABASE sqlmesh OWNER sqlmesh;
CREATE DATABASE portal OWNER portal;
REVOKE CONNECT, TEMPORARY ON DATABASE sqlmesh, portal, postgres FROM PUBLIC;
\connect portal
-- The portal searches by embeddings. A PostgreSQL without pgvector serves SQLMesh all the same.
SELECT 'CREATE EXTENSION vector' WHERE EXISTS (
  SELECT FROM pg_available_extensions WHERE name = 'vector'
) \gexec
SQL
