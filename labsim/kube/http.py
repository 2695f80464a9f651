"""The HTTP surface of an API server: pure and synchronous, the same in process and behind a socket.

A request is authenticated by the owner's callback, authorized here (authorization.py), and answered from the server.
Watches come back as a stream (watch.py). Discovery, OpenAPI and health are answered here too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from urllib.parse import unquote

import orjson

from labsim.kube import bodies, discovery
from labsim.kube.authentication import ANONYMOUS, bearer_token, with_authenticated
from labsim.kube.authorization import Attributes, Authorizer, forbidden_error, groups_allow
from labsim.kube.catalog import Catalog, Resource
from labsim.kube.errors import ApiError, no_resource
from labsim.kube.field_checks import FieldChecks
from labsim.kube.openapi import V2_PROTOBUF, OpenApi, content_hash
from labsim.kube.representation import JSON, answer, not_acceptable
from labsim.kube.resource_requests import ResourceRequests, no_method
from labsim.kube.reviews import review
from labsim.kube.routes import Route, parse_path
from labsim.kube.server import ApiServer
from labsim.kube.store import Revision
from labsim.kube.users import User
from labsim.model.http import Request, Response
from labsim.model.kinds import CUSTOM_RESOURCE_DEFINITION

Authenticate = Callable[[Request], User | None]

HEALTH = frozenset(("/healthz", "/livez", "/readyz"))
NOT_FOUND = Response(
    status=404,
    headers={"content-type": "text/plain; charset=utf-8", "cache-control": "no-cache, private"},
    body=b"404 page not found\n",
)
VERSION = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitVersion": "v1.36.2",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "labsim",
    "platform": "linux/amd64",
}
_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_FOREVER = {"cache-control": "public, immutable", "expires": "Fri, 31 Dec 2100 00:00:00 GMT"}


class KubeHttp:
    """Answers HTTP requests for one API server. `authenticate` maps a request to its user, None for nobody it knows."""

    def __init__(self, server: ApiServer, *, authenticate: Authenticate) -> None:
        self._server = server
        self._authenticate = authenticate
        self._authorizer = Authorizer(server)
        self._requests = ResourceRequests(server, server.clock.now)
        self._catalog: Catalog | None = None
        self._openapi: OpenApi | None = None
        server.subscribe(self._definitions_changed, CUSTOM_RESOURCE_DEFINITION)

    def handle(self, request: Request) -> Response:
        """The answer to a request. Errors are answers too; only a fault of ours is raised."""
        try:
            response = self._handle(request)
        except ApiError as error:
            response = error_answer(error)
        return _indented(response) if _wants_indent(request) else response

    @property
    def catalog(self) -> Catalog:
        """What is served now."""
        if self._catalog is None:
            definitions, _ = self._server.list(CUSTOM_RESOURCE_DEFINITION)
            self._catalog = Catalog(definitions)
        return self._catalog

    def _definitions_changed(self, revision: Revision) -> None:
        self._catalog = None
        self._openapi = None
        if revision.type == "DELETED":
            spec = revision.object["spec"]
            self._requests.end_watches(spec["group"], spec["names"]["plural"])

    # -- who ----------------------------------------------------------------------------------------------------------

    def _handle(self, request: Request) -> Response:
        user = self._authenticate(request)
        if user is None:
            if bearer_token(request):
                raise ApiError(401, "Unauthorized", "Unauthorized")
            user = ANONYMOUS
        if "impersonate-user" in request.headers:
            user = self._impersonated(user, request.headers)
        bodies.check_size(request)
        path = request.path
        if path.startswith(("/apis/", "/api/")):
            route = parse_path(path)
            if route is not None and route.plural:
                return self._resource(request, route, user)
        return self._other(request, unquote(path), user)

    def _impersonated(self, user: User, headers: Mapping[str, str]) -> User:
        name = headers["impersonate-user"]
        groups = tuple(part.strip() for part in headers.get("impersonate-group", "").split(",") if part.strip())
        wanted = [Attributes("impersonate", resource="users", name=name)]
        wanted += [Attributes("impersonate", resource="groups", name=group) for group in groups]
        for attributes in wanted:
            if not self._authorizer.allows(user, attributes):
                raise forbidden_error(user, attributes)
        return with_authenticated(User(name, headers.get("impersonate-uid", ""), groups))

    # -- resources ----------------------------------------------------------------------------------------------------

    def _resource(self, request: Request, route: Route, user: User) -> Response:
        resource = self.catalog.find(route.group, route.version, route.plural)
        if resource is None or (route.namespace is not None and not resource.kind.namespaced):
            return self._unknown(route.group)
        if "system:masters" not in user.groups:
            verb = _verb(request, route)
            if not groups_allow(user.groups, verb, route.group, route.plural, route.subresource):
                wanted = Attributes(
                    verb, route.group, route.plural, route.subresource, route.namespace or "", route.name
                )
                if not self._authorizer.allows(user, wanted):
                    raise forbidden_error(user, wanted)
        if not resource.stored:
            return self._review(request, resource, user)
        if resource.kind.namespaced and route.namespace is None and (route.name or request.method == "POST"):
            return self._unknown(route.group)
        response = self._requests.serve(request, route, resource, user)
        if resource.warning:
            return FieldChecks("", [resource.warning]).on(response)
        return response

    def _review(self, request: Request, resource: Resource, user: User) -> Response:
        if request.method != "POST":
            raise no_method()
        body = bodies.object_body(request, builtin=True)
        body.setdefault("kind", resource.kind.kind)
        body.setdefault("apiVersion", resource.kind.api_version)
        return answer(201, review(resource.kind.kind, body, user, self._authorizer, self._token_user))

    def _token_user(self, token: str) -> User | None:
        return self._authenticate(Request(method="GET", path="/", headers={"authorization": f"Bearer {token}"}))

    def _unknown(self, group: str) -> Response:
        """Built-in groups answer with a Status for what they do not have, others with the mux's own text."""
        return error_answer(no_resource()) if self.catalog.is_builtin(group) else NOT_FOUND

    # -- everything else --------------------------------------------------------------------------------------------

    def _other(self, request: Request, path: str, user: User) -> Response:
        wanted = Attributes(request.method.lower() if request.method not in ("GET", "HEAD") else "get", path=path)
        if not self._authorizer.allows(user, wanted):
            raise forbidden_error(user, wanted)
        if path in HEALTH or path.startswith(("/healthz/", "/livez/", "/readyz/")):
            return Response(headers={"content-type": "text/plain; charset=utf-8"}, body=b"ok")
        if path.rstrip("/") == "/version":
            return answer(200, VERSION)
        if path.startswith("/openapi/"):
            return self._openapi_answer(request, path)
        if path.startswith("//"):
            return NOT_FOUND
        return self._discovery(request, path.rstrip("/").split("/")[1:])

    def _discovery(self, request: Request, parts: list[str]) -> Response:
        catalog = self.catalog
        match parts:
            case [] | [""]:
                return answer(200, {"paths": ["/api", "/api/v1", "/apis", "/healthz", "/openapi/v3", "/version"]})
            case ["api" | "apis" as root]:
                return self._root(request, catalog, core=root == "api")
            case ["api", version]:
                document = discovery.api_resource_list(catalog, "", version)
            case ["apis", group]:
                document = discovery.api_group(catalog, group)
                if document is None:
                    return NOT_FOUND
            case ["apis", group, version]:
                document = discovery.api_resource_list(catalog, group, version)
                if document is None:
                    return self._unknown(group)
            case ["api", *_]:
                raise no_resource()
            case ["apis", group, *_]:
                return self._unknown(group)
            case _:
                return NOT_FOUND
        if document is None:
            raise no_resource()
        if request.method not in ("GET", "HEAD"):
            raise no_method()
        return answer(200, document)

    def _root(self, request: Request, catalog: Catalog, *, core: bool) -> Response:
        accept = request.headers.get("accept", "")
        for clause in accept.split(","):
            media_type, *parameters = (part.strip() for part in clause.split(";"))
            options = dict(part.partition("=")[::2] for part in parameters)
            if options.get("as") == "APIGroupDiscoveryList":
                if options.get("v") != "v2" or media_type != JSON:
                    continue
                document = orjson.dumps(discovery.aggregated(catalog, core=core))
                headers = {"content-type": discovery.AGGREGATED_MEDIA_TYPE, "cache-control": "public", "vary": "Accept"}
                return _cacheable(request, document, headers)
            if media_type in (JSON, "*/*", "application/*", ""):
                break
        else:
            raise not_acceptable()
        return answer(200, discovery.api_versions(request.host) if core else discovery.api_group_list(catalog))

    def _openapi_answer(self, request: Request, path: str) -> Response:
        if self._openapi is None:
            self._openapi = OpenApi(self.catalog)
        key = path.removeprefix("/openapi/").rstrip("/")
        if key == "v3":
            return answer(200, self._openapi.index())
        if key == "v2":
            headers = {"content-type": JSON, "vary": "Accept"}
            if "protobuf" in request.headers.get("accept", "").split(",")[0]:
                return _cacheable(request, self._openapi.v2_protobuf(), {**headers, "content-type": V2_PROTOBUF})
            return _cacheable(request, self._openapi.v2(), headers)
        document = self._openapi.document(key.removeprefix("v3/")) if key.startswith("v3/") else None
        if document is None:
            return NOT_FOUND
        headers = {"content-type": JSON, "vary": "Accept", **(_FOREVER if request.param("hash") else {})}
        return _cacheable(request, document, headers)


def error_answer(error: ApiError) -> Response:
    """The Status of an error, with the headers that belong to it."""
    status = error.status()
    if error.code in (404, 405) and not error.details:
        status = {**status, "details": {}}
    if not error.reason:
        status.pop("reason", None)
    headers = {"content-type": JSON, "cache-control": "no-cache, private"}
    retry_s = error.details.get("retryAfterSeconds")
    if retry_s:
        headers["retry-after"] = str(retry_s)
    return Response(status=error.code, headers=headers, body=orjson.dumps(status))


def _verb(request: Request, route: Route) -> str:
    verb = _VERBS.get(request.method) or request.method.lower()
    if route.name:
        return "watch" if route.watch and verb == "get" else verb
    if verb == "get":
        return "watch" if route.watch or request.param("watch") in ("true", "1") else "list"
    return "deletecollection" if verb == "delete" else verb


def _cacheable(request: Request, document: bytes, headers: dict[str, str]) -> Response:
    etag = f'"{content_hash(document)}"'
    headers = {"cache-control": "no-cache, private", **headers, "etag": etag}
    if request.headers.get("if-none-match") == etag:
        return Response(status=304, headers=headers)
    return Response(status=200, headers=headers, body=document)


def _wants_indent(request: Request) -> bool:
    if request.headers.get("user-agent", "").startswith("curl/"):
        return True
    return bool(request.query) and any(name == "pretty" and value != "false" for name, value in request.query)


def _indented(response: Response) -> Response:
    if not response.body or response.headers.get("content-type") != JSON:
        return response
    body = orjson.dumps(orjson.loads(response.body), option=orjson.OPT_INDENT_2) + b"\n"
    return dataclasses.replace(response, body=body)
