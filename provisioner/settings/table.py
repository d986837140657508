"""List every setting: name, parser, what it is for, default; in the order of the documentation.

`settings.Settings` has an attribute for each row. The texts are what `docs/settings.md` says.
"""

from __future__ import annotations

from provisioner.settings import documents, remotes, types
from provisioner.settings.source import Setting

_DAY = 86_400
_YEAR = 365 * _DAY
_MAX_ID = 2**32 - 2

SETTINGS: tuple[Setting, ...] = (
    Setting("PROV_DPP_API_URL", types.url, "base URL of the portal", unset="required"),
    Setting(
        "PROV_DPP_API_KEY",
        types.key,
        "API key for the portal, sent as `x-key`; without it and without OAuth: no authentication",
        secret=True,
    ),
    Setting(
        "PROV_DPP_CLIENT_ID",
        types.key,
        "OAuth client credentials for the portal, instead of an API key; tokens are renewed "
        "before they expire",
    ),
    Setting("PROV_DPP_CLIENT_SECRET", types.key, "secret of the OAuth client", secret=True),
    Setting("PROV_DPP_TOKEN_URL", types.token_url, "token endpoint of the OAuth client"),
    Setting("PROV_DPP_SCOPE", types.key, "scope that the OAuth client asks for, if any"),
    Setting(
        "PROV_WEBHOOK_SECRET",
        types.webhook_secrets,
        "HMAC secrets, comma- or newline-separated, any may match: plain ones for the portal's "
        "`Sign` header, `whsec_…` for Standard Webhooks",
        absent=(),
        aliases=("WEBHOOK_SECRET",),
        secret=True,
    ),
    Setting(
        "PROV_WEBHOOK_BASIC_AUTH",
        types.basic_auth,
        "`user:password` that a delivery may carry as Basic auth: a portal sends it when its "
        "webhook URL holds them",
        secret=True,
    ),
    Setting(
        "PROV_ALLOW_UNSIGNED",
        types.boolean,
        "accept deliveries without proof; without it, and with no proof configured, the service "
        "refuses to start",
        default="false",
    ),
    Setting(
        "PROV_TEMPLATE_PATH",
        types.path,
        "Cookiecutter template folder",
        unset="the shipped `templates/sqlmesh`",
    ),
    Setting(
        "PROV_TEMPLATE_OUTPUT_PATH",
        types.path,
        "where workspaces live, one folder a product, named by its namespace",
        default="demo/products",
    ),
    Setting(
        "PROV_TEMPLATE_UPDATES",
        types.one_of(types.TemplateUpdates),
        "`auto`: a changed template reaches existing workspaces at their next reconcile; "
        "`manual`: by `provisioner upgrade`",
        default="auto",
    ),
    Setting(
        "PROV_TEMPLATE_CONTEXT",
        documents.template_context,
        "`key=value` pairs, comma- or newline-separated: values for keys that the template itself "
        "declares in `cookiecutter.json`, as `engine=ducklake`; where the key has choices, one of "
        "them",
        absent=(),
    ),
    Setting(
        "PROV_WORKSPACE_ROOT",
        types.plain_path,
        "the same folder as workspaces see it; goes into `.env`",
        unset="`PROV_TEMPLATE_OUTPUT_PATH`",
    ),
    Setting(
        "PROV_LOCAL_ROOT",
        types.plain_path,
        "the same folder as the host sees it; if set, `.env.local` carries it, for work outside "
        "the containers",
    ),
    Setting(
        "S3_LOCAL_ENDPOINT", types.endpoint, "the S3 endpoint as the host sees it, for `.env.local`"
    ),
    Setting(
        "PROV_WORKSPACE_UID",
        types.whole(0, _MAX_ID),
        "owner given to workspace files; another than the service's own needs the capability to "
        "give files away",
        unset="unset",
    ),
    Setting(
        "PROV_WORKSPACE_GID",
        types.whole(0, _MAX_ID),
        "group given to workspace files",
        unset="unset",
    ),
    Setting(
        "PROV_GIT_REMOTE",
        remotes.git_remote,
        "git remote that gets each workspace's first commit: a URL with `{namespace}` in it; "
        "repositories there must exist, or be made by the first push",
    ),
    Setting(
        "PROV_GIT_BASIC_AUTH",
        types.basic_auth,
        "`user:password` for remotes over HTTP; it goes into no workspace",
        secret=True,
    ),
    Setting(
        "PROV_DUCKDB_EXTENSION_DIRECTORY",
        types.plain_path,
        "DuckDB's extensions as workspaces see them; goes into `.env`",
        unset=(
            "`/opt/duckdb/extensions` if it holds any, else `<output>/.provisioner/duckdb`, filled "
            "at start from installed `duckdb-extension-*` wheels"
        ),
    ),
    Setting("S3_ENDPOINT", types.endpoint, "the S3 engine as the provisioner sees it", unset="AWS"),
    Setting(
        "S3_ACCESS_KEY",
        types.key,
        "the provisioner's own admin key; with `S3_SECRET_KEY`, or neither",
        unset="AWS defaults",
        secret=True,
    ),
    Setting("S3_SECRET_KEY", types.key, "its secret", unset="AWS defaults", secret=True),
    Setting(
        "S3_PUBLIC_ENDPOINT",
        types.endpoint,
        "the S3 engine as workspaces see it; goes into `.env`",
        unset="`S3_ENDPOINT`, or `https://s3.<region>.amazonaws.com`",
    ),
    Setting(
        "IAM_ENDPOINT",
        types.endpoint,
        "where the `iam` issuer finds the IAM API",
        unset="`S3_ENDPOINT`",
    ),
    Setting(
        "S3_BUCKET",
        types.bucket,
        "bucket that holds every product's prefix",
        default="data-products",
    ),
    Setting("S3_REGION", types.region, "its region", default="us-east-1"),
    Setting(
        "S3_CREATE_BUCKET",
        types.boolean,
        "make the bucket if it is not there when the first product needs it",
        default="true",
    ),
    Setting(
        "PROV_ISSUER",
        types.one_of(types.Issuer),
        "who makes keys: `iam` (AWS, Ceph >= 19, moto), `rustfs`, `minio`, `rgw` (Ceph < 19); "
        "`auto` detects, logs and shows what it chose",
        default="auto",
    ),
    Setting(
        "PROV_GRANT_SCOPE",
        types.one_of(types.GrantScope),
        "what an approved link opens: `<producer>/<port>/` and the port's assets, or with "
        "`product` all of `<producer>/`",
        default="output_port",
    ),
    Setting(
        "PROV_ALLOWED_LOCATIONS",
        types.locations,
        "`bucket/prefix/` patterns outside the products' prefixes that active custom assets may "
        "open, and what lies below them; `*` and `?` never stand for a `/`, nor in the first "
        "folder of `S3_BUCKET`",
        absent=(),
    ),
    Setting(
        "PROV_ROLE_NAME",
        types.role_name,
        "`{namespace}` template: the `iam` issuer also keeps a role per product, which the "
        "portal's AWS sign-in assumes",
    ),
    Setting(
        "PROV_ROLE_TRUST_POLICY",
        documents.trust_policy,
        "trust policy of these roles, as JSON: who may assume them; needed with `PROV_ROLE_NAME`",
    ),
    Setting(
        "PROV_ROTATION_DAYS",
        types.whole(1, 3650),
        "age in days at which a key is replaced",
        default="30",
    ),
    Setting(
        "PROV_ROTATION_GRACE_SECONDS",
        types.whole(0, _YEAR),
        "how long the old key works once the new one is published",
        default="86400",
    ),
    Setting(
        "PROV_ROTATE_ON_GRANT",
        types.boolean,
        "replace the key when the set of grants changes, too",
        default="true",
    ),
    Setting(
        "PROV_READY_LIFECYCLE",
        types.text,
        "lifecycle set in the portal once provisioned; empty = leave it alone; a name the portal "
        "does not know is a condition, not a failure",
        default="Ready",
        empty_counts=True,
    ),
    Setting(
        "PROV_ON_DELETE",
        types.one_of(types.OnDelete),
        "`archive`: keep data and workspace, out of reach; `purge`: delete both after the delay, "
        "keys long dead",
        default="archive",
    ),
    Setting(
        "PROV_PURGE_DELAY_SECONDS", types.whole(0, _YEAR), "delay before a purge", default="86400"
    ),
    Setting(
        "PROV_DATABASE_URL",
        types.database_url,
        "state; `postgresql+psycopg://…` for several replicas",
        default="sqlite:///var/provisioner.db",
        secret=True,
    ),
    Setting(
        "PROV_SEALING_KEYS",
        types.sealing_keys,
        "Fernet keys, comma- or newline-separated, blank and `#` lines ignored; the first seals, "
        "all open",
        unset=(
            "`secrets/sealing.key`, made 0600 at first start only if the store holds nothing sealed"
        ),
        absent=(),
        secret=True,
    ),
    Setting(
        "PROV_WORKERS",
        types.whole(1, 64),
        "products reconciled at the same time, and as many compared by a resync",
        default="4",
    ),
    Setting(
        "PROV_RESYNC_SECONDS",
        types.whole(1, 7 * _DAY),
        "how often the whole portal is compared with what is known",
        default="180",
    ),
    Setting(
        "PROV_VERIFY_HOURS",
        types.whole(1, 8760),
        "how often each product is read back from the engine and the disk; their turns are "
        "spread over these hours",
        default="24",
    ),
    Setting(
        "PROV_PORTS_SECONDS",
        types.whole(0, _DAY),
        "how often the `_port.json` of each output port is looked at that somebody has access to; "
        "others twelve times more rarely; 0 = never",
        default="300",
    ),
    Setting(
        "PROV_HISTORY_DAYS",
        types.whole(1, 3650),
        "how long deliveries and outcomes are remembered",
        default="30",
    ),
    Setting(
        "PROV_MODE",
        types.one_of(types.Mode),
        "`observe` plans and shows, and changes nothing",
        default="apply",
    ),
    Setting(
        "PROV_SHUTDOWN_SECONDS",
        types.whole(0, 3600),
        "time that running reconciles get to finish at a stop",
        default="10",
    ),
    Setting(
        "PROV_ADMIN_TOKEN",
        types.tokens,
        "bearer tokens of the admin API, several allowed; none = off",
        absent=(),
        secret=True,
    ),
    Setting(
        "PROV_ADMIN_READ_TOKEN",
        types.tokens,
        "bearer tokens that may only read, several allowed",
        absent=(),
        secret=True,
    ),
    Setting(
        "PROV_LOG_LEVEL",
        types.one_of(types.LogLevel),
        "`debug`, `info`, `warning` or `error`",
        default="info",
    ),
    Setting(
        "PROV_LOG_FORMAT",
        types.one_of(types.LogFormat),
        "`text`, `json`, or `auto`: text on a terminal, else one JSON object a line",
        default="auto",
    ),
    Setting("PROV_HOST", types.host, "address to listen on", default="127.0.0.1"),
    Setting("PROV_PORT", types.whole(1, 65535), "port to listen on", default="8090"),
)
