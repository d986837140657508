#!/bin/sh
# Prepare the demo's folders and secrets; runs as root before everything else, at each start.
#
# Each reader has a volume of its own below $SECRETS, so that nobody sees another's. What is
# known to the demo's readers is written as it is told; what is random is made once and kept.
set -eu
umask 077

SECRETS=${SECRETS:-/secrets}
PRODUCTS=${PRODUCTS:-/products}

# put READER UID NAME VALUE: a file that its reader alone can read, there whole or not at all
put() {
  file=$SECRETS/$1/$3
  if [ -e "$file" ] && [ "$(cat "$file")" = "$4" ]; then return; fi
  printf '%s\n' "$4" > "$file.new"
  chmod 0400 "$file.new"
  chown "$2:$2" "$file.new"
  mv -f "$file.new" "$file"
}

# kept READER NAME: what is there already, else 48 random hexadecimal digits
kept() {
  file=$SECRETS/$1/$2
  if [ -s "$file" ]; then cat "$file"; else od -An -vtx1 -N24 /dev/urandom | tr -d ' \n'; fi
}

chmod 0755 "$SECRETS"/*

put rustfs 10001 access_key minioadmin
put rustfs 10001 secret_key minioadmin
put provisioner 1000 s3_access_key minioadmin
put provisioner 1000 s3_secret_key minioadmin

webhook_secret=${WEBHOOK_SECRET:-demo-secret-key}
put provisioner 1000 webhook_secret "$webhook_secret"
put portal 0 webhook_secret "$webhook_secret"
# Portals after 0.7.0 sign nothing; their webhook's URL may hold a user and password.
put provisioner 1000 webhook_basic_auth "portal:$webhook_secret"
if [ -n "${PROV_DPP_API_KEY:-}" ]; then
  put provisioner 1000 dpp_api_key "$PROV_DPP_API_KEY"
fi
put provisioner 1000 admin_token "$(kept provisioner admin_token)"

# PostgreSQL takes its passwords at its first start alone, so they are never made anew.
put postgresql 999 password "$(kept postgresql password)"
put postgresql 999 portal_password "$(kept postgresql portal_password)"
put portal 0 db_password "$(kept postgresql portal_password)"
put postgresql 999 sqlmesh_password "$(kept postgresql sqlmesh_password)"
put editors 1000 pgpassword "$(kept postgresql sqlmesh_password)"

# A bind mount comes with the host's owner; only the folder itself is given to the service. The
# service's own folder in it is made here, because the editors' mounts hide it from the start.
own=$PRODUCTS/.provisioner
if [ -L "$own" ]; then
  echo "init: .provisioner in the products' folder is a link; remove it" >&2
  exit 1
fi
if [ ! -d "$own" ]; then
  mkdir -m 0700 "$own"
  chown 1000:1000 "$own"
fi
chown 1000:1000 "$PRODUCTS"
