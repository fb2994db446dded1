"""The Django project of :class:`support.providers.toolkit.Toolkit`, whole: settings, pages, control, server.

``python toolkit_server.py FOLDER READY CLIENT_ID CLIENT_SECRET REDIRECT_URI``. People sign in and agree on two plain pages; a request
to the authorization address with ``X-Scripted-User`` needs neither (browsers cannot send that header across origins).
"""

# ruff: noqa: E402  # Django's models can be imported only once it is configured
import collections
import json
import os
import sys
import threading
import time
from pathlib import Path

import django
from django.conf import settings

FOLDER, READY = Path(sys.argv[1]), Path(sys.argv[2])
CLIENT_ID, CLIENT_SECRET, REDIRECT_URI = sys.argv[3:6]
LOGIN_PAGE = """<!doctype html><title>Sign in</title><form method="post">{% csrf_token %}{{ form.as_p }}
<button id="sign-in" type="submit">Sign in</button></form>"""
CONSENT_PAGE = """<!doctype html><title>Allow access?</title><h1>{{ application.name }} wants access</h1>
<form method="post">{% csrf_token %}{% for field in form %}{% if field.is_hidden %}{{ field }}{% endif %}{% endfor %}
<ul>{% for scope in scopes_descriptions %}<li>{{ scope }}</li>{% endfor %}</ul>{{ form.errors }}
<button id="deny" type="submit">Cancel</button><button id="allow" type="submit" name="allow" value="Authorize">Allow</button>
</form>"""

settings.configure(
    DEBUG=False,
    SECRET_KEY="of a test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    LOGIN_URL="/login/",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "oauth2_provider",
    ],
    MIDDLEWARE=[
        f"{__name__}.counting",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [
                    (
                        "django.template.loaders.locmem.Loader",
                        {
                            "registration/login.html": LOGIN_PAGE,
                            "oauth2_provider/authorize.html": CONSENT_PAGE,
                        },
                    ),
                ]
            },
        }
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(FOLDER / "provider.sqlite3"),
            "ATOMIC_REQUESTS": True,  # checking and spending a token are one: of two at once the second is late
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",  # SQLite's stand-in for the row locks that the toolkit takes
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
            },
        }
    },
    MIGRATION_MODULES=dict.fromkeys(("auth", "contenttypes", "sessions", "oauth2_provider")),
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # quick: these are no secrets
    LOGGING_CONFIG=None,
    OAUTH2_PROVIDER={
        "SCOPES": {"read": "Read things", "write": "Write things"},
        "PKCE_REQUIRED": True,
        "ROTATE_REFRESH_TOKEN": True,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        "REFRESH_TOKEN_GRACE_PERIOD_SECONDS": 0,
        "ACCESS_TOKEN_EXPIRE_SECONDS": 3600,
        "ALWAYS_RELOAD_OAUTHLIB_CORE": True,  # lifetimes are set while it runs
    },
)
django.setup()

from django.contrib.auth import get_user_model, views
from django.core.management import call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider.exceptions import OAuthToolkitError
from oauth2_provider.models import get_access_token_model, get_application_model, get_refresh_token_model
from oauth2_provider.settings import oauth2_settings
from oauth2_provider.views import AuthorizationView, RevokeTokenView, TokenView

COUNTS: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
COUNTING = threading.Lock()
SECRETS: list[tuple[str, str]] = []  # what went over the token endpoint, both ways, in order
SECRET_FIELDS = ("code", "code_verifier", "client_secret", "refresh_token", "access_token")
WAITS = {"before_s": 0.0, "after_s": 0.0}
TOOLKIT_SETTINGS = {
    "access_lifetime_s": "ACCESS_TOKEN_EXPIRE_SECONDS",
    "grace_s": "REFRESH_TOKEN_GRACE_PERIOD_SECONDS",
}


def counting(get_response):
    """Middleware: counts token requests by grant type and status, and makes them wait where a test wants it."""

    def answer(request: HttpRequest) -> HttpResponse:
        if request.path != "/o/token/":
            return get_response(request)
        grant = request.POST.get("grant_type", "none")
        with COUNTING:
            COUNTS[grant]["waiting"] += 1
        time.sleep(WAITS["before_s"])
        answered = get_response(request)
        told = {**request.POST.dict(), **json.loads(answered.content)}
        with COUNTING:
            SECRETS.extend((name, told[name]) for name in SECRET_FIELDS if name in told)
            COUNTS[grant]["waiting"] -= 1
            COUNTS[grant][str(answered.status_code)] += 1
        time.sleep(WAITS["after_s"])
        return answered

    return answer


class Authorization(AuthorizationView):
    """The toolkit's, and the same without pages for scripted people."""

    def dispatch(self, request, *args, **kwargs):
        user = request.headers.get("X-Scripted-User")
        if user is None:
            return super().dispatch(request, *args, **kwargs)
        request.user = get_user_model().objects.get(username=user)
        try:
            scopes, credentials = self.validate_authorization_request(request)
            address, *_ = self.create_authorization_response(
                request=request,
                scopes=" ".join(scopes),
                credentials=credentials,
                allow=request.headers["X-Scripted-Answer"] == "yes",
            )
        except OAuthToolkitError as error:
            application = get_application_model().objects.get(client_id=CLIENT_ID)
            return self.error_response(error, application)
        return self.redirect(address, get_application_model().objects.get(client_id=CLIENT_ID))


def me(request: HttpRequest) -> HttpResponse:
    """The service's own call: who the token's account is."""
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    found = get_access_token_model().objects.filter(token=token, expires__gt=timezone.now()).first()
    if found is None:
        return JsonResponse({"error": "invalid_token"}, status=401)
    return JsonResponse({"id": str(found.user_id), "name": found.user.username, "scope": found.scope})


@csrf_exempt
def control(request: HttpRequest, what: str) -> HttpResponse:
    """What tests ask and set."""
    return JsonResponse(CONTROLS[what](json.loads(request.body)))


def set_settings(document: dict[str, float]) -> dict[str, object]:
    for name, value in document.items():
        if name in WAITS:
            WAITS[name] = float(value)
        else:
            setattr(oauth2_settings, TOOLKIT_SETTINGS[name], value)
    return {}


def add_redirect(document: dict[str, str]) -> dict[str, object]:
    application = get_application_model().objects.get(client_id=CLIENT_ID)
    if document["uri"] not in application.redirect_uris.split():
        application.redirect_uris += " " + document["uri"]
        application.save()
    return {}


def counts(_document: dict[str, object]) -> dict[str, object]:
    with COUNTING:
        return {grant: {status: n for status, n in counter.items() if n} for grant, counter in COUNTS.items()}


def secrets(_document: dict[str, object]) -> dict[str, object]:
    with COUNTING:
        return {"secrets": list(SECRETS)}


def alive(document: dict[str, str]) -> dict[str, object]:
    """A family lives while one of its refresh tokens is not revoked."""
    tokens = get_refresh_token_model().objects
    found = tokens.filter(token=document["refresh_token"]).first()
    family = tokens.filter(token_family=found.token_family, revoked=None) if found else tokens.none()
    return {"alive": family.exists()}


CONTROLS = {
    "settings": set_settings,
    "redirects": add_redirect,
    "counts": counts,
    "secrets": secrets,
    "alive": alive,
}
urlpatterns = [
    path("o/authorize/", Authorization.as_view(), name="authorize"),
    path("o/token/", TokenView.as_view(), name="token"),
    path("o/revoke_token/", RevokeTokenView.as_view(), name="revoke-token"),
    path("login/", views.LoginView.as_view(), name="login"),
    path("api/me", me),
    path("_control/<str:what>", control),
]


class Handler(WSGIRequestHandler):
    """Logs nothing: the log would hold codes."""

    def log_message(self, *_args: object) -> None:
        """Nothing."""


class Server(ThreadedWSGIServer):
    """Many callers at once; a caller that was killed is no news."""

    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, *_args: object) -> None:
        """A broken pipe ends its thread only; other faults are answers with status 500."""


def main() -> None:
    (FOLDER / "provider.sqlite3").unlink(missing_ok=True)
    call_command("migrate", run_syncdb=True, verbosity=0)
    for name in ("alice", "bob"):
        get_user_model().objects.create_user(name, password="wonderland")
    applications = get_application_model()
    applications.objects.create(
        name="Connector proxy",
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        client_type=applications.CLIENT_CONFIDENTIAL,
        authorization_grant_type=applications.GRANT_AUTHORIZATION_CODE,
        redirect_uris=REDIRECT_URI,
    )
    server = Server(("127.0.0.1", 0), Handler)
    server.set_app(get_wsgi_application())
    fresh = READY.with_suffix(".new")
    fresh.write_text(json.dumps({"pid": os.getpid(), "port": server.server_address[1]}))
    fresh.rename(READY)
    server.serve_forever()


if __name__ == "__main__":
    main()
