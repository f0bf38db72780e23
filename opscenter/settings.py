"""Every setting of the centre, from the environment (``docs/configuration.md`` lists them).

Nothing needs to be set: the defaults are one machine with SQLite and a private Redis. Durations
carry their unit in the name.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import plotly
from csp.constants import NONE, SELF

from opscenter.core.env import (
    check_heartbeat_limit,
    check_secret_key,
    env_bool,
    env_choice,
    env_former_keys,
    env_gateway_url,
    env_host_port,
    env_hosts,
    env_int,
    env_match,
    env_networks,
    env_origins,
    env_secret,
    env_str,
    env_url,
    is_loopback,
)
from opscenter.core.env_connections import env_postgres, env_redis
from opscenter.core.logs import logging_config
from opscenter.core.paths import ensure_private_directory, read_or_create_secret, runtime_directory
from opscenter.core.shards import check_shards

BASE_DIR = Path(__file__).resolve().parent.parent
VERSION = "0.1.0"

# --- Where things are stored -----------------------------------------------------------------
DATA_DIR = ensure_private_directory(
    Path(env_str("OPSCENTER_DATA_DIR") or BASE_DIR / "var").absolute(), "OPSCENTER_DATA_DIR"
)
RUNTIME_DIR = runtime_directory(DATA_DIR)
SECRET_KEY = check_secret_key(
    "OPSCENTER_SECRET_KEY",
    env_secret("OPSCENTER_SECRET_KEY") or read_or_create_secret(DATA_DIR / "secret_key"),
)
SECRET_KEY_FALLBACKS = env_former_keys("OPSCENTER_SECRET_KEY_FALLBACKS")
DEBUG = env_bool("OPSCENTER_DEBUG", default=False)

# Free space below which /readyz warns.
FREE_SPACE_WARNING_BYTES = 1_000_000 * env_int(
    "OPSCENTER_FREE_SPACE_WARNING_MB", 1000, low=0, high=10_000_000
)

# --- Addresses -------------------------------------------------------------------------------
WEB_HOST = env_str("OPSCENTER_HOST", "127.0.0.1")
WEB_PORT = env_int("OPSCENTER_PORT", 8000, low=1, high=65535)
PUBLIC_URL = env_url(
    "OPSCENTER_PUBLIC_URL", f"http://127.0.0.1:{WEB_PORT}", ("http", "https")
).rstrip("/")
PUBLIC_HOST = urlsplit(PUBLIC_URL).hostname or "127.0.0.1"
_HOSTS = env_hosts("OPSCENTER_ALLOWED_HOSTS")
ALLOWED_HOSTS = [*_HOSTS, PUBLIC_HOST, WEB_HOST, "127.0.0.1", "localhost"]
SECURE = urlsplit(PUBLIC_URL).scheme == "https"
# Whose X-Forwarded-For and -Proto the web process trusts. A centre for this machine alone has no
# proxy, and its users could otherwise forge any address in throttles and the audit log.
TRUSTED_PROXIES = env_networks(
    "OPSCENTER_TRUSTED_PROXIES", () if is_loopback(PUBLIC_HOST) else ("127.0.0.1", "::1")
)
_PUBLIC_ORIGIN = f"{urlsplit(PUBLIC_URL).scheme}://{urlsplit(PUBLIC_URL).netloc}"
TRUSTED_ORIGINS = sorted(
    {
        _PUBLIC_ORIGIN,
        # Behind TLS, pages of other programs on an operator's own machine are not trusted.
        *(() if SECURE else (f"http://127.0.0.1:{WEB_PORT}", f"http://localhost:{WEB_PORT}")),
        *env_origins("OPSCENTER_TRUSTED_ORIGINS"),
    }
)
CSRF_TRUSTED_ORIGINS = TRUSTED_ORIGINS

# --- The hub ---------------------------------------------------------------------------------
HUB_ID = env_match(
    "OPSCENTER_HUB_ID", "hub-1", r"[A-Za-z0-9_.-]{1,40}",
    "1 to 40 letters, digits, dots, dashes or underscores",
)  # fmt: skip
HUB_HOST = env_str("OPSCENTER_HUB_HOST", "127.0.0.1")
HUB_PORT = env_int("OPSCENTER_HUB_PORT", 2222, low=1, high=65535)
HUB_WS_PORT = env_int("OPSCENTER_HUB_WS_PORT", 2280, low=1, high=65535)
# What agents are told to dial: host:port of the SSH listener, and the WebSocket address.
_hub_host = f"[{PUBLIC_HOST}]" if ":" in PUBLIC_HOST else PUBLIC_HOST
HUB_PUBLIC_ADDRESS = env_host_port("OPSCENTER_HUB_PUBLIC_ADDRESS", f"{_hub_host}:{HUB_PORT}")
HUB_PUBLIC_WS_URL = env_url(
    "OPSCENTER_HUB_PUBLIC_WS_URL", f"ws://{_hub_host}:{HUB_WS_PORT}/tunnel", ("ws", "wss")
)
HUB_HOST_KEY_PATH = Path(env_str("OPSCENTER_HUB_HOST_KEY_FILE") or DATA_DIR / "hub_host_key")
HUB_KEEPALIVE_SECONDS = env_int("OPSCENTER_HUB_KEEPALIVE_SECONDS", 15, low=1, high=300)
HUB_DRAIN_SECONDS = env_int("OPSCENTER_HUB_DRAIN_SECONDS", 3, low=0, high=600)
HUB_MAX_STREAMS = env_int("OPSCENTER_HUB_MAX_STREAMS", 8, low=1, high=32)
HUB_HANDSHAKES_PER_ADDRESS = env_int("OPSCENTER_HUB_HANDSHAKES_PER_ADDRESS", 20, low=1, high=150)
# Whose X-Forwarded-For is trusted on the WebSocket address, as for the web process.
HUB_TRUSTED_PROXIES = env_networks(
    "OPSCENTER_HUB_TRUSTED_PROXIES", () if is_loopback(PUBLIC_HOST) else ("127.0.0.1", "::1")
)
# Where workers reach the hub's gateway: unix:///path or tcp://host:port.
GATEWAY_URL = env_gateway_url("OPSCENTER_GATEWAY_URL", f"unix://{RUNTIME_DIR / 'gateway.sock'}")

# --- Pulls -----------------------------------------------------------------------------------
METRICS_STORE = env_choice("METRICS_STORE", "sqlite", ("sqlite", "influxdb"))
METRICS_SQLITE_PATH = DATA_DIR / "metrics.sqlite3"
METRICS_SHARDS = env_int("METRICS_SHARDS", 1, low=1, high=64)
if METRICS_STORE == "sqlite":
    check_shards(METRICS_SQLITE_PATH, METRICS_SHARDS)
INFLUXDB_URL = env_url("INFLUXDB_URL", "http://127.0.0.1:8086", ("http", "https")).rstrip("/")
INFLUXDB_ORG = env_str("INFLUXDB_ORG", "opscenter")
INFLUXDB_BUCKET_PREFIX = env_match(
    "INFLUXDB_BUCKET_PREFIX", "opscenter", r"[A-Za-z0-9-]{1,40}",
    "1 to 40 letters, digits, dashes",
)  # fmt: skip
_NEEDS_TOKEN = "METRICS_STORE=influxdb" if METRICS_STORE == "influxdb" else ""
INFLUXDB_TOKEN = env_secret("INFLUXDB_TOKEN", needed_by=_NEEDS_TOKEN) or ""
PULL_INTERVAL_SECONDS = env_int("OPSCENTER_PULL_INTERVAL_SECONDS", 60, low=5, high=3600)
PULL_DEADLINE_SECONDS = env_int("OPSCENTER_PULL_DEADLINE_SECONDS", 30, low=1, high=600)
JUDGE_ALL_FILESYSTEMS = env_bool("OPSCENTER_JUDGE_ALL_FILESYSTEMS", default=False)
PULL_MAX_BYTES = env_int("OPSCENTER_PULL_MAX_BYTES", 8_000_000, low=10_000, high=256_000_000)
JOIN_TOKEN_HOURS = env_int("OPSCENTER_JOIN_TOKEN_HOURS", 1, low=1, high=24 * 30)

# --- Processes -------------------------------------------------------------------------------
# Web processes of the whole installation: limits that each counts by itself are divided by it.
WEB_PROCESSES = env_int("OPSCENTER_WEB_PROCESSES", 1, low=1, high=64)
WORKER_PROCESSES = env_int("OPSCENTER_WORKER_PROCESSES", 1, low=1, high=64)
WORKER_THREADS = env_int("OPSCENTER_WORKER_THREADS", 32, low=1, high=512)
# How often worker, beat and hub write heartbeats, and how old one may get before its process is
# restarted and /readyz fails.
HEARTBEAT_SECONDS = env_int("OPSCENTER_HEARTBEAT_SECONDS", 15, low=1, high=60)
HEARTBEAT_LIMIT_SECONDS = env_int("OPSCENTER_HEARTBEAT_LIMIT_SECONDS", 60, low=3, high=3600)
check_heartbeat_limit(HEARTBEAT_LIMIT_SECONDS, HEARTBEAT_SECONDS)

# --- Applications ----------------------------------------------------------------------------
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "knox",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_filters",
    "guardian",
    "django_htmx",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "axes",
    "csp",
    "channels",
    "opscenter",
    "clusters",
    "metrics",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "opscenter.web.middleware.StaticFilesMiddleware",
    "opscenter.web.middleware.no_store",
    "csp.middleware.CSPMiddleware",
    "opscenter.web.middleware.SessionMiddleware",
    "opscenter.web.middleware.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "axes.middleware.AxesMiddleware",
    "opscenter.web.middleware.BudgetMiddleware",
    "opscenter.web.middleware.DatabaseTroubleMiddleware",
    "opscenter.web.middleware.LostSecretMiddleware",
    "opscenter.web.middleware.large_answers",
]

ROOT_URLCONF = "opscenter.urls"
ASGI_APPLICATION = "opscenter.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "opscenter.web.context_processors.page",
            ],
        },
    },
]

# --- Databases -------------------------------------------------------------------------------
_POSTGRES = env_postgres("DATABASE_URL")
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "opscenter.sqlite3",
        # Opening the file again for each task would cost a sixth of a pull.
        "CONN_MAX_AGE": 60,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            # A large sort must not need a temporary file: reading works on a full disk.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
            "PRAGMA temp_store=MEMORY;",
        },
        # Tests use a file too: a shared in-memory database knows no busy time-out.
        "TEST": {"NAME": DATA_DIR / "test.sqlite3"},
    }
    if _POSTGRES is None
    else {
        "ENGINE": "django.db.backends.postgresql",
        **_POSTGRES,
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
}
# knox's own token table would be unused beside ours; on PostgreSQL it also blocks a flush.
MIGRATION_MODULES = {"knox": None}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Redis: queue, locks, live updates ---------------------------------------------------------
# `manage.py up` starts a private one on a unix socket when REDIS_URL is not set.
_REDIS = env_redis("REDIS_URL", f"unix://{RUNTIME_DIR / 'redis.sock'}")
REDIS_URL = _REDIS.url
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL]},
    },
}
_ON_SOCKET = REDIS_URL.startswith("unix://")
CELERY_BROKER_URL = _REDIS.broker_url
CELERY_BROKER_USE_SSL = _REDIS.tls or False
# No result backend: results live in the databases, and redis-py's PubSub can hang in its
# finaliser (celery#6969, redis-py#3640).
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_DEFAULT_QUEUE = "pull"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# Without these time-outs a black-holed connection hangs worker and beat for ever.
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {
    "socket_timeout": 15,
    "socket_connect_timeout": 5,
    "health_check_interval": 10,
    "retry_on_timeout": True,
    "visibility_timeout": 600,
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    "priority_steps": [0, 3, 6, 9],
    "queue_order_strategy": "priority",
}
if not _ON_SOCKET:
    CELERY_BROKER_TRANSPORT_OPTIONS["socket_keepalive"] = True
CELERY_BEAT_ENABLE_REMOTE_CONTROL = True
CELERY_BEAT_MAX_LOOP_INTERVAL = 5
CELERY_TASK_ALWAYS_EAGER = False

# In this process. Nothing that a stranger causes is kept here: it would push out the rest.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}

# --- Who may sign in -------------------------------------------------------------------------
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
    "guardian.backends.ObjectPermissionBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "opscenter.core.first_password.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
ANONYMOUS_USER_NAME = None
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "fleet"
LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_ADAPTER = "clusters.accounts.adapters.ClosedSignupAdapter"
ACCOUNT_FORMS = {"login": "clusters.accounts.forms.SignInForm"}
# Ours count instead: allauth's are in a cache that forgets (clusters.accounts.attempts).
ACCOUNT_RATE_LIMITS = False
MFA_ADAPTER = "clusters.accounts.adapters.EncryptingMFAAdapter"
MFA_FORMS = {
    "authenticate": "clusters.accounts.forms.CodeForm",
    "reauthenticate": "clusters.accounts.forms.CodeAgainForm",
}
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=10)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "clusters.accounts.attempts.axes_address"
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False

SESSION_ENGINE = "opscenter.web.sessions"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SESSION_COOKIE_NAME = "__Host-opscenter" if SECURE else "opscenter"
CSRF_COOKIE_NAME = "__Host-opscenter-csrf" if SECURE else "opscenter-csrf"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 8 * 3600
SESSION_SAVE_EVERY_REQUEST = False
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if SECURE else None
SECURE_HSTS_SECONDS = 31_536_000 if SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = False
SECURE_SSL_REDIRECT = SECURE
# Requested from this machine without TLS: probes, Prometheus, the local agent's enrolment.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$", r"^api/v1/agents/enrol/?$"]
# It is not for us to bind other names below the domain to TLS, or to join the preload list.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        # plotly.js sets style attributes; without this charts draw wrong.
        "style-src": [SELF, "'unsafe-inline'"],
        "img-src": [SELF, "data:", "blob:"],
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
        "form-action": [SELF],
    }
}

# --- API -------------------------------------------------------------------------------------
KNOX_TOKEN_MODEL = "clusters.ApiToken"  # noqa: S105 - a model's name
REST_KNOX = {
    "TOKEN_TTL": None,
    "TOKEN_PREFIX": "opc_",
    "AUTH_HEADER_PREFIX": "Token",
    "AUTO_REFRESH": False,
    "TOKEN_MODEL": KNOX_TOKEN_MODEL,
}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "clusters.api.authentication.ApiTokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": [
        "rest_framework.permissions.IsAuthenticated",
        "clusters.api.authentication.ReadOnlyTokensOnlyRead",
    ],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["opscenter.core.api.BoundedJSONParser"],
    "DEFAULT_FILTER_BACKENDS": ["clusters.api.filters.StrictFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "opscenter.core.api.PageNumberPagination",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "opscenter.core.api.exception_handler",
    # Trust no X-Forwarded-For here: uvicorn sets the address, from the trusted proxies.
    "NUM_PROXIES": 0,
    "DEFAULT_METADATA_CLASS": None,  # no OPTIONS: the schema says what there is
    "URL_FORMAT_OVERRIDE": None,
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Ops Center",
    "DESCRIPTION": "Clusters, their nodes and pods, and their metrics over time.",
    "VERSION": VERSION,
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "OAS_VERSION": "3.1.0",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "opscenter.core.schema.add_errors",
    ],
    "ENUM_NAME_OVERRIDES": {
        "HealthState": "clusters.health.WORST_FIRST",
        "EnrolmentStatus": "clusters.models.Cluster.Status",
        "KeyStatus": "clusters.models.ClusterKey.Status",
        "SessionState": "clusters.models.TunnelSession.State",
        "WindowState": "metrics.api.parameters.WINDOW_STATES",
        "SeriesKind": "metrics.api.parameters.KINDS",
        "LimitName": "metrics.api.retention_serializers.LIMIT_NAMES",
        "SourceKind": "metrics.api.source_serializers.MAIN_KINDS",
    },
}

# --- Pages -----------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
STATIC_URL = "/static/"
STATIC_ROOT = Path(env_str("OPSCENTER_STATIC_ROOT") or DATA_DIR / "static")
STATICFILES_DIRS = [
    BASE_DIR / "static",
    # plotly.min.js as the installed package brings it; no third-party file is copied in.
    ("plotly", Path(plotly.__file__).parent / "package_data"),
]
# Served from the packages themselves: collecting and compressing takes too long for a start.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
WHITENOISE_MAX_AGE = 3600

# --- Logging ---------------------------------------------------------------------------------
LOG_LEVEL = env_choice("OPSCENTER_LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
LOG_FORMAT = env_choice("OPSCENTER_LOG_FORMAT", "text", ("text", "json"))
LOGGING_CONFIG = "opscenter.core.logs.configure"
LOGGING = logging_config(LOG_LEVEL, LOG_FORMAT)
ACCESS_LOG = env_bool("OPSCENTER_ACCESS_LOG", default=False)
