# The service alone: workspaces run in images of their own.
# The base is pinned by tag. To pin it by digest as well:
#   docker build --build-arg PYTHON_IMAGE=python:3.12-slim-bookworm@sha256:… .
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV UV_LINK_MODE=copy \
    UV_PROJECT_ENVIRONMENT=/opt/venv \
    UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir uv==0.13.8
WORKDIR /src
# Dependencies first: they change less often than the code.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-dev --no-editable --compile-bytecode --no-install-project
COPY provisioner provisioner
COPY templates templates
RUN uv sync --locked --no-dev --no-editable --compile-bytecode

FROM ${PYTHON_IMAGE}
# Every workspace begins as a git repository.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends git openssh-client \
    && rm -rf /var/lib/apt/lists/*
# State lies below the working folder: var/provisioner.db and secrets/sealing.key.
RUN groupadd --gid 1000 provisioner \
    && useradd --uid 1000 --gid 1000 --home-dir /state --shell /usr/sbin/nologin provisioner \
    && install -d -o 1000 -g 1000 -m 0700 /state /state/var /state/secrets \
    && install -d -o 1000 -g 1000 -m 0755 /products
COPY --from=build /opt/venv /opt/venv
COPY templates/sqlmesh /templates/sqlmesh
# DuckDB's extensions are named as the editors' images have them; the service loads none.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PROV_TEMPLATE_PATH=/templates/sqlmesh \
    PROV_TEMPLATE_OUTPUT_PATH=/products \
    PROV_DUCKDB_EXTENSION_DIRECTORY=/opt/duckdb/extensions \
    PROV_HOST=0.0.0.0 \
    PROV_PORT=8090
WORKDIR /state
VOLUME ["/products", "/state"]
USER 1000:1000
EXPOSE 8090
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['PROV_PORT']), timeout=2); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["provisioner", "serve"]
