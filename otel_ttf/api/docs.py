"""GET /docs, its assets, and the icon: everything from the package, nothing from elsewhere."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

# Images inside the stylesheet are data: URLs; everything else comes from this server or not at all.
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " font-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {"Content-Security-Policy": _CSP, "Cache-Control": "public, max-age=3600"}

_OURS = resources.files("otel_ttf.api") / "web"
# Of Swagger UI 5: older ones don't draw OpenAPI 3.1, which FastAPI writes.
_SWAGGER_UI = resources.files("fastapi_offline") / "static"

# path -> (where it is, media type)
ASSETS = {
    "/docs": (_OURS / "docs.html", "text/html; charset=utf-8"),
    "/docs/docs.js": (_OURS / "docs.js", "text/javascript; charset=utf-8"),
    "/docs/swagger-ui-bundle.js": (
        _SWAGGER_UI / "swagger-ui-bundle.js",
        "text/javascript; charset=utf-8",
    ),
    "/docs/swagger-ui.css": (_SWAGGER_UI / "swagger-ui.css", "text/css; charset=utf-8"),
    "/favicon.svg": (_OURS / "favicon.svg", "image/svg+xml"),
    "/favicon.ico": (_OURS / "favicon.svg", "image/svg+xml"),
}


def routes() -> APIRouter:
    """The page and its assets."""
    router = APIRouter(include_in_schema=False)

    # Plain `def`: the file is read in a worker thread, anew each time; a megabyte isn't kept for a page that
    # is seldom looked at.
    def asset(request: Request) -> Response:
        file, media_type = ASSETS[request.scope["path"]]
        return Response(file.read_bytes(), headers=_HEADERS, media_type=media_type)

    for path in ASSETS:
        router.add_api_route(path, asset, methods=["GET"])
    return router
