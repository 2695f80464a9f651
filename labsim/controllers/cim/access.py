"""Who may call the REST API (host-lifecycle 3.1)."""

from __future__ import annotations

from labsim.controllers.cim.database import Database
from labsim.controllers.cim.errors import ServiceError
from labsim.controllers.cim.tokens import TokenAuthority
from labsim.model.http import Request

# Whether a token's InfraEnv or cluster exists is asked of the database at most this often.
EXISTENCE_CACHE_S = 600.0
INVALID = "unauthenticated for invalid credentials"


class Unauthenticated(ServiceError):
    """401: no token, one that is not ours, or one whose InfraEnv or cluster is gone."""

    def __init__(self, message: str = INVALID) -> None:
        super().__init__(401, message)


class Access:
    """Checks tokens."""

    def __init__(self, database: Database, tokens: TokenAuthority) -> None:
        self._database = database
        self._tokens = tokens
        self._known_until_s: dict[str, float] = {}

    def agent(self, request: Request, now_s: float) -> None:
        """An agent's X-Secret-Key: any token of the service will do, whatever path it is used on."""
        self._check(request.headers.get("x-secret-key", ""), now_s)

    def either(self, request: Request, now_s: float, *, infra_env_id: str = "", cluster_id: str = "") -> None:
        """A header token, or one in the URL, which is good for its own InfraEnv or cluster only."""
        header = request.headers.get("x-secret-key", "")
        if header:
            self._check(header, now_s)
            return
        field, value = self._check(request.param("api_key"), now_s)
        if (field == "infra_env_id" and infra_env_id not in ("", value)) or (
            field == "cluster_id" and cluster_id not in ("", value)
        ):
            raise ServiceError(404, "record not found")

    def _check(self, token: str, now_s: float) -> tuple[str, str]:
        claims = self._tokens.verify(token) if token else None
        if claims is None:
            raise Unauthenticated()
        for field, table in (("infra_env_id", self._database.infra_envs), ("cluster_id", self._database.clusters)):
            value = claims.get(field)
            if isinstance(value, str):
                if self._known_until_s.get(value, 0.0) < now_s:
                    if value not in table:
                        self._known_until_s.pop(value, None)
                        raise Unauthenticated()
                    self._known_until_s[value] = now_s + EXISTENCE_CACHE_S
                return field, value
        raise Unauthenticated()
