"""/docs and /openapi.json: complete, and nothing of them is loaded from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from otel_ttf.api.docs import ASSETS

OPERATIONS = {
    ("/api/v1/subjects/resolve", "post"): "resolveSubjects",
    ("/api/v1/ttf/{user_id}", "get"): "getUserTtf",
    ("/api/v1/subjects/{token}", "get"): "getSubjectTtf",
    ("/api/v1/ttf", "get"): "getTtf",
    ("/api/v1/stuck", "get"): "getStuck",
    ("/api/v1/ttf/{user_id}/alerts", "get"): "getUserAlerts",
    ("/api/v1/events/names", "get"): "getEventNames",
    ("/health", "get"): "getHealth",
    ("/ready", "get"): "getReady",
    ("/metrics", "get"): "getMetrics",
}

# Hosts that Swagger UI's script names without asking them: namespaces, identifiers of schema dialects, links in
# texts, bases and patterns for parsing URLs, and the default that docs.js overrides (validatorUrl).
NEVER_ASKED = re.compile(
    r"www\.w3\.org|github\.com|reactjs\.org|redux\.js\.org|fb\.me|vladimirgorej\.com|example\.com|base"
    r"|json-schema\.org|spec\.openapis\.org|swagger\.io|validator\.swagger\.io|spdx\.org"
    r"|datatracker\.ietf\.org|www\.rfc-editor\.org"
    r"|(?:www\.)?(?:facebook|instagram|twitter|soundcloud|tiktok|실례)\.com|"
)


@pytest.fixture
def api(serve_memory, onboarding):
    return serve_memory(onboarding, {})


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []
        self.inline = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in ("href", "src", "srcset", "action")]
        self.inline += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        if tag == "script" and "src" not in dict(attrs):
            self.inline.append(tag)


def test_the_page_loads_only_what_this_server_has(api):
    page = Links()
    page.feed(api.client.get("/docs").text)
    assert page.inline == []
    assert len(page.found) == 4
    for link in page.found:
        assert link.startswith("/")
        assert not link.startswith("//")
        assert api.client.get(link).status_code == 200


def test_our_script_asks_only_this_server(api):
    script = api.client.get("/docs/docs.js").text
    assert re.findall(r"https?:|//[\w.]+\.\w", script) == []
    assert "validatorUrl: null" in script
    assert 'url: "/openapi.json"' in script


def test_the_stylesheet_asks_nobody(api):
    style = api.client.get("/docs/swagger-ui.css").text
    assert "@import" not in style
    assert all(target.startswith("data:") for target in re.findall(r"url\(\s*[\"']?([^)\"']+)", style))


def test_the_script_from_the_package_names_only_hosts_that_are_never_asked(api):
    script = api.client.get("/docs/swagger-ui-bundle.js").text
    hosts = set(re.findall(r"(?:https?|wss?)://([\w.-]*)", script))
    assert [host for host in hosts if not NEVER_ASKED.fullmatch(host)] == []


def test_the_page_can_draw_the_version_of_our_document(api):
    """Swagger UI 4 shows nothing but an error for OpenAPI 3.1."""
    script = api.client.get("/docs/swagger-ui-bundle.js").text
    version = re.search(r'PACKAGE_VERSION:"(\d+)\.', script)
    assert version is not None
    assert int(version[1]) >= 5
    assert api.get("/openapi.json")["openapi"].startswith("3.1.")


@pytest.mark.parametrize("url", ASSETS)
def test_the_browser_may_ask_nobody_else(api, url):
    response = api.client.get(url)
    policy = dict(
        part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";")
    )
    assert response.status_code == 200
    assert policy["default-src"] == "'none'"
    allowed = {source for sources in policy.values() for source in sources.split()}
    assert allowed == {"'none'", "'self'", "data:"}
    assert policy["script-src"] == policy["connect-src"] == "'self'"


@pytest.mark.parametrize("url", ["/favicon.ico", "/favicon.svg"])
def test_the_icon_comes_from_here(api, url):
    response = api.client.get(url)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/svg+xml")


def test_operation_ids_are_stable(api):
    paths = api.get("/openapi.json")["paths"]
    assert {
        (path, method): operation["operationId"]
        for path, operations in paths.items()
        for method, operation in operations.items()
    } == OPERATIONS


def test_errors_are_described_as_the_problem_documents_they_are(api):
    document = api.get("/openapi.json")
    assert "HTTPValidationError" not in str(document)
    assert "ProblemDocument" in document["components"]["schemas"]
    for (path, method), name in OPERATIONS.items():
        answers = document["paths"][path][method]["responses"]
        assert "422" not in answers, name
        if path.startswith("/api/"):
            assert list(answers["400"]["content"]) == ["application/problem+json"]


def test_every_reference_leads_somewhere(api):
    document = api.get("/openapi.json")
    for name in set(re.findall(r"#/components/schemas/(\w+)", str(document))):
        assert name in document["components"]["schemas"]


def test_every_field_and_parameter_is_described(api):
    document = api.get("/openapi.json")
    for name, schema in document["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            assert described.get("description"), f"{name}.{field}"
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            for parameter in operation.get("parameters", []):
                assert parameter.get("description"), parameter["name"]


def test_configured_segments_are_parameters(api):
    parameters = api.get("/openapi.json")["paths"]["/api/v1/ttf"]["get"]["parameters"]
    names = [parameter["name"] for parameter in parameters]
    assert names == ["journey", "from", "to", "segment.plan", "segment.channel"]


@pytest.mark.parametrize(
    ("url", "model"),
    [
        ("/api/v1/ttf/u", "UserAnswer"),
        ("/api/v1/ttf", "FiguresAnswer"),
        ("/api/v1/stuck?over=0", "StuckAnswer"),
        ("/api/v1/events/names", "NamesAnswer"),
    ],
)
def test_answers_have_the_described_shape(serve_memory, onboarding, state, token, url, model):
    from otel_ttf.api import models
    from otel_ttf.store.base import SeenName

    api = serve_memory(
        onboarding, {token("u"): state(onboarding, 0, 4)}, seen=[SeenName("event", "signup", 1, 1, ())]
    )
    got = api.get(url)
    described = getattr(models, model).model_validate(got, strict=True)
    if model != "UserAnswer":
        assert described.model_dump(exclude_unset=True) == got
