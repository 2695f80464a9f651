"""The HTTP surface of an API server: pure and synchronous, the same in process and behind a socket.

A request is authenticated by the owner's callback, authorized here (authorization.py), and answered from the server.
Watches come back as a stream (watch.py). Discovery, OpenAPI and health are answered here too.
"""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Callable
from urllib.parse import unquote

import orjson

from labsim.kube import bodies, discovery
from labsim.kube.account_tokens import AccountTokens
from labsim.kube.authentication import ANONYMOUS, bearer_token
from labsim.kube.authorization import Attributes, Authorizer, forbidden_error, groups_allow
from labsim.kube.catalog import Catalog, Resource
from labsim.kube.client_seam import ClientSeam
from labsim.kube.decoding import decode_builtin
from labsim.kube.errors import ApiError, no_resource
from labsim.kube.field_checks import FieldChecks
from labsim.kube.impersonation import impersonated, wanted_user
from labsim.kube.list_options import check_duration, is_true
from labsim.kube.openapi import V2_PROTOBUF, OpenApi, content_hash
from labsim.kube.refusals import no_method
from labsim.kube.representation import JSON, answer, encode, error_media_type, negotiate, not_acceptable
from labsim.kube.resource_requests import ResourceRequests
from labsim.kube.reviews import review
from labsim.kube.routes import Route, parse_path
from labsim.kube.selectors import parse_field_selector
from labsim.kube.server import ApiServer
from labsim.kube.shapes import builtin_shape
from labsim.kube.store import Revision
from labsim.kube.users import User
from labsim.model.http import Request, Response
from labsim.model.kinds import CUSTOM_RESOURCE_DEFINITION
from labsim.model.objects import timestamp

Authenticate = Callable[[Request], User | None]

GZIP_BYTES_MIN = 128 * 1024
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
    """Answers HTTP requests for one API server. `authenticate` maps a request to its user, None for nobody it knows.

    account_key: what ServiceAccounts' tokens are signed with; nobody else may know it. Without one there are none.
    seam: what stands between the server and its clients, if anything does.
    """

    def __init__(
        self,
        server: ApiServer,
        *,
        authenticate: Authenticate,
        account_key: bytes = b"",
        seam: ClientSeam | None = None,
    ) -> None:
        self._server = server
        self._authenticate = authenticate
        self._authorizer = Authorizer(server)
        self._accounts = AccountTokens(server, account_key)
        self._seam = seam
        self._requests = ResourceRequests(server, server.clock.now, self._accounts, seam)
        self._catalog: Catalog | None = None
        self._openapi: OpenApi | None = None
        server.subscribe(self._definitions_changed, CUSTOM_RESOURCE_DEFINITION)

    def handle(self, request: Request) -> Response:
        """The answer to a request. Errors are answers too; only a fault of ours is raised."""
        try:
            response = self._handle(request)
        except ApiError as error:
            response = error_answer(error, request.headers.get("accept", ""))
        if _wants_indent(request):
            response = _indented(response)
        if len(response.body) > GZIP_BYTES_MIN and "gzip" in request.headers.get("accept-encoding", ""):
            return _zipped(response)
        return response

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
            token = bearer_token(request)
            user = self._accounts.user_of(token) if token else ANONYMOUS
            if user is None:
                raise ApiError(401, "Unauthorized", "Unauthorized")
        path = unquote(request.path) if "%" in request.path else request.path
        route = parse_path(path) if path.startswith(("/apis/", "/api/")) else None
        if any(name.startswith("impersonate-") for name in request.headers):
            wanted = wanted_user(request.headers)
            if wanted is not None:
                user = impersonated(self._authorizer, user, wanted, _asked(request, path, route))
        if self._seam is not None:
            self._seam.asked(request, user)
        if route is not None and route.plural:
            return self._resource(request, route, user)
        return self._other(request, path, user)

    # -- resources ----------------------------------------------------------------------------------------------------

    def _resource(self, request: Request, route: Route, user: User) -> Response:
        if "system:masters" not in user.groups:
            verb = verb_of(request, route)
            if not groups_allow(user.groups, verb, route.group, route.plural, route.subresource):
                wanted = _attributes(request, route)
                if not self._authorizer.allows(user, wanted):
                    raise forbidden_error(user, wanted, self._authorizer.missing_roles(user, wanted))
        resource = self.catalog.find(route.group, route.version, route.plural)
        if resource is None or (route.namespace is not None and not resource.kind.namespaced):
            return self._unknown(route.group)
        if request.method == "HEAD" and not resource.custom:
            raise no_method()
        if not resource.stored:
            return self._review(request, resource, user)
        if resource.kind.namespaced and route.namespace is None and (route.name or request.method == "POST"):
            if not resource.custom:
                raise no_method() if not route.name else no_resource()
            return self._unknown(route.group)
        if request.method not in ("GET", "HEAD") and request.query and request.param("timeout"):
            check_duration(request.param("timeout"))
        response = self._requests.serve(request, route, resource, user)
        if resource.warning:
            return FieldChecks("", [resource.warning]).on(response)
        return response

    def _review(self, request: Request, resource: Resource, user: User) -> Response:
        if request.method != "POST":
            raise no_method()
        body = bodies.object_body(request, resource.kind, builtin=True)
        body.setdefault("kind", resource.kind.kind)
        body.setdefault("apiVersion", resource.kind.api_version)
        decode_builtin(resource.kind, body, builtin_shape(resource.kind))
        form = negotiate(request.headers.get("accept", ""), protobuf=resource.protobuf)
        made = review(resource.kind.kind, body, user, self._authorizer, self._token_user)
        if resource.kind.kind == "SelfSubjectReview":
            made["metadata"] = {**made["metadata"], "creationTimestamp": timestamp(self._server.clock.now())}
        return answer(201, made, form)

    def _token_user(self, token: str) -> User | None:
        found = self._authenticate(Request(method="GET", path="/", headers={"authorization": f"Bearer {token}"}))
        return found or self._accounts.user_of(token)

    def _unknown(self, group: str) -> Response:
        """Built-in groups answer with a Status for what they do not have, others with the mux's own text."""
        return error_answer(no_resource()) if self.catalog.is_builtin(group) else NOT_FOUND

    # -- everything else --------------------------------------------------------------------------------------------

    def _other(self, request: Request, path: str, user: User) -> Response:
        wanted = _asked(request, path, None)
        if not self._authorizer.allows(user, wanted):
            raise forbidden_error(user, wanted)
        if path in HEALTH or path.startswith(("/healthz/", "/livez/", "/readyz/")):
            return Response(headers={"content-type": "text/plain; charset=utf-8"}, body=b"ok")
        if path.rstrip("/") == "/version":
            if request.method not in ("GET", "HEAD"):
                raise no_method()
            return answer(200, VERSION)
        if path.startswith("/openapi/"):
            return self._openapi_answer(request, path)
        if path.startswith("//") or not path.startswith("/"):
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


def error_answer(error: ApiError, accept: str = "") -> Response:
    """The Status of an error, in the media type that the client takes, with the headers that belong to it."""
    status = error.status()
    if error.code in (404, 405) and not error.details:
        status = {**status, "details": {}}
    if not error.reason:
        status.pop("reason", None)
    media_type = error_media_type(accept) if accept else JSON
    headers = {"content-type": media_type, "cache-control": "no-cache, private"}
    retry_s = error.details.get("retryAfterSeconds")
    if retry_s:
        headers["retry-after"] = str(retry_s)
    return Response(status=error.code, headers=headers, body=encode(status, media_type))


def _asked(request: Request, path: str, route: Route | None) -> Attributes:
    """What a request wants to do, to a resource or to a path that is none."""
    if route is not None and route.plural:
        return _attributes(request, route)
    return Attributes(request.method.lower(), path=path)


def verb_of(request: Request, route: Route) -> str:
    """What authorization calls a request: get, list, watch, create, update, patch, delete, deletecollection."""
    if route.watch:
        return "watch"
    verb = _VERBS.get(request.method, "")
    if route.name:
        return verb
    if verb == "get":
        return "watch" if is_true(request, "watch") else "list"
    return "deletecollection" if verb == "delete" else verb


def _attributes(request: Request, route: Route) -> Attributes:
    """What authorization is asked: a Namespace is in itself, and who selects one name asks for that object alone."""
    verb, name = verb_of(request, route), route.name
    if not name and verb in ("list", "watch"):
        name = _selected_name(request.param("fieldSelector"))
    namespace = route.namespace or (route.name if route.plural == "namespaces" and not route.group else "")
    return Attributes(verb, route.group, route.plural, route.subresource, namespace, name)


def _selected_name(fields: str) -> str:
    """The name that a field selector asks for and no other; "" where there is none."""
    try:
        terms = parse_field_selector(fields) if fields else ()
    except ValueError:
        return ""
    return next((value for path, equal, value in terms if equal and path == "metadata.name"), "")


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


def _zipped(response: Response) -> Response:
    """The response as kube-apiserver packs large ones: at the level that costs least."""
    vary = ", ".join(part for part in (response.headers.get("vary", ""), "Accept-Encoding") if part)
    headers = {**response.headers, "content-encoding": "gzip", "vary": vary}
    return dataclasses.replace(response, headers=headers, body=gzip.compress(response.body, 1, mtime=0))


def _indented(response: Response) -> Response:
    if not response.body or response.headers.get("content-type") != JSON:
        return response
    body = orjson.dumps(orjson.loads(response.body), option=orjson.OPT_INDENT_2) + b"\n"
    return dataclasses.replace(response, body=body)
