#!/bin/sh
# What the images of the editors share: the tools of a workspace, built once and then put into place.
#
#   tools.sh build                  make /opt/venv and /opt/duckdb; of that stage only files are kept
#   tools.sh install PYTHON HOME    put the tools where terminals look, and the products into HOME
set -eu

build() {
  apt-get update
  # What a release of Debian or Ubuntu holds is pinned enough: it gets security fixes alone.
  apt-get install -y --no-install-recommends python3 python3-venv
  rm -rf /var/lib/apt/lists/*
  python3 -m venv /opt/uv
  /opt/uv/bin/pip install --no-cache-dir uv==0.13.8
  # uv.lock is the one place that pins versions. Bytecode makes each command 1.6 s faster.
  export UV_LINK_MODE=copy UV_PROJECT_ENVIRONMENT=/opt/venv UV_PYTHON_DOWNLOADS=never
  /opt/uv/bin/uv sync --locked --no-dev --no-install-project --extra workspace \
    --compile-bytecode --python /usr/bin/python3
  /opt/venv/bin/python extensions.py /opt/duckdb/extensions
  # The extensions' copies inside the environment would only double 50 MB and more.
  find /opt/venv -name '*.duckdb_extension' -delete
}

# Terminals start with the system's own PATH, whatever the image sets. `python` is no link: beside a
# link it would not find its environment. DuckDB's home links to what is baked, and can take more.
install_for() {
  python=$1 home=$2
  ln -s /opt/venv/bin/sqlmesh /usr/local/bin/sqlmesh
  ln -s "/opt/venv/lib/$python/site-packages/duckdb_cli/duckdb" /usr/local/bin/duckdb
  printf '#!/bin/sh\nexec /opt/venv/bin/python "$@"\n' > /usr/local/bin/python
  chmod 0755 /usr/local/bin/python
  install -d -o 1000 -g 1000 /workspace /workspace/products "$home/.duckdb"
  cp -rs /opt/duckdb/extensions "$home/.duckdb/extensions"
  ln -s /workspace "$home/workspace"
  ln -s /workspace/products "$home/products"
  chown -hR 1000:1000 "$home/.duckdb" "$home/workspace" "$home/products"
  sqlmesh --version
  duckdb --version
  python --version
}

case "$1" in
  build) build ;;
  install) install_for "$2" "$3" ;;
  *) exit 2 ;;
esac
