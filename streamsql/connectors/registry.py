"""Schema registries: schemas by their id and by their subject, by the REST API of Confluent's, which others have too.

    GET  /schemas/ids/7                    {"schema": "...", "schemaType": "PROTOBUF", "references": [...]}
    GET  /subjects/NAME/versions/latest    the same, with "id" and "version"
    POST /subjects/NAME/versions           {"schema": "..."}  ->  {"id": 7}

https://docs.confluent.io/platform/current/schema-registry/develop/api.html. The client is httpx; redirects are not followed.
A registry that cannot be reached is `Unavailable`: the stream waits for it, and reads on from what is committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from streamsql.base.errors import (
    ExternalError,
    FeatureNotSupported,
    InvalidParameterValue,
    StreamSQLError,
    Unavailable,
    UndefinedObject,
)
from streamsql.connectors.incoming import require
from streamsql.connectors.settings import Option
from streamsql.formats.binary import SchemaText

if TYPE_CHECKING:
    import httpx

_SECONDS_MAX = 10.0
_ACCEPT = "application/vnd.schemaregistry.v1+json, application/json"
_CONTENT = "application/vnd.schemaregistry.v1+json"
_SAID_CHARACTERS_MAX = 300
_REFERENCES_MAX = 1_000
_PASSING = frozenset({408, 425, 429})
# error codes of the API: no such subject, no such version, no such schema
_NOT_FOUND = frozenset({404, 40401, 40402, 40403})


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidParameterValue("it does not begin with https:// or http://")
    return text.rstrip("/")


REGISTRY_OPTIONS: dict[str, Option] = {
    "registry": Option(
        _url, None, ("schema.registry.url", "schema_registry"),
        says="of `avro` and `protobuf`: the address of a schema registry, as Confluent's: `https://host:8081`",
    ),
    "registry_username": Option(str, None, says="who asks the registry"),
    "registry_password": Option(str, None, secret=True, says="the password of who asks the registry"),
    "registry_ca": Option(
        str, None, says="the certificates (PEM) by which the registry's is checked; without it those of the system"
    ),
    "registry_subject": Option(str, None, says="the registry's subject; of Kafka the default is the topic with `-value`"),
}  # fmt: skip


class Registry:
    """A registry. For one thread at a time."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._url: str = options["registry"]
        self._client = _client(options)
        self._known: dict[str, Mapping[str, Any]] = {}  # a version of a subject never changes

    def schema(self, schema_id: int) -> SchemaText:
        """Give the schema of an id. Raises UndefinedObject where there is none, Unavailable, ExternalError."""
        return self._text(self._get(f"/schemas/ids/{schema_id}", "the registry has no such schema"))

    def latest(self, subject: str) -> SchemaText:
        """Give the latest schema of a subject. Raises the same."""
        path = f"/subjects/{quote(subject, safe='')}/versions/latest"
        return self._text(self._get(path, f'the registry has no subject "{subject}"'))

    def register(self, subject: str, schema: SchemaText) -> int:
        """Have a subject take a schema, if it has it not yet; give its id. Raises ExternalError where it is refused."""
        body: dict[str, Any] = {"schema": schema.text}
        if schema.kind != "AVRO":
            body["schemaType"] = schema.kind
        path = f"/subjects/{quote(subject, safe='')}/versions"
        answer = self._ask("POST", path, f'the registry refuses subject "{subject}"', json=body)
        return int(answer["id"])

    def close(self) -> None:
        self._client.close()

    # ---- what is sent ----

    def _text(self, answer: Mapping[str, Any]) -> SchemaText:
        found: dict[str, str] = {}
        self._follow(answer, found)
        return SchemaText(str(answer["schema"]), str(answer.get("schemaType") or "AVRO"), tuple(found.items()))

    def _follow(self, answer: Mapping[str, Any], found: dict[str, str]) -> None:
        """Gather the schemas that one refers to, those first that others refer to."""
        for reference in answer.get("references") or ():
            name = str(reference["name"])
            if name in found:
                continue
            if len(found) >= _REFERENCES_MAX:
                raise FeatureNotSupported(f"a schema with more than {_REFERENCES_MAX} references")
            version, subject = reference["version"], str(reference["subject"])
            path = f"/subjects/{quote(subject, safe='')}/versions/{version}"
            other = self._get(path, f'the registry has no version {version} of "{subject}"')
            self._follow(other, found)
            found[name] = str(other["schema"])

    def _get(self, path: str, missing: str) -> Mapping[str, Any]:
        found = self._known.get(path)
        if found is None:
            found = self._ask("GET", path, missing)
            if not path.endswith("/latest"):
                self._known[path] = found
        return found

    def _ask(self, method: str, path: str, missing: str, json: Any = None) -> Mapping[str, Any]:
        import httpx

        try:
            answer = self._client.request(method, self._url + path, json=json, headers=_headers(json))
        except httpx.TimeoutException as error:
            raise Unavailable(f"the schema registry {self._where} did not answer in time") from error
        except httpx.TransportError as error:
            if "CERTIFICATE" in str(error):
                raise ExternalError(
                    f"the certificate of the schema registry {self._where} is not believed: {error}",
                    hint="registry_ca names another authority",
                ) from error
            raise Unavailable(f"the schema registry {self._where} cannot be reached: {error}") from error
        try:
            found = answer.json()
        except ValueError:
            found = None
        if answer.is_success and isinstance(found, dict):
            return found
        raise self._refusal(answer, found if isinstance(found, dict) else {}, missing)

    def _refusal(self, answer: httpx.Response, found: Mapping[str, Any], missing: str) -> StreamSQLError:
        said = str(found.get("message") or answer.reason_phrase)[:_SAID_CHARACTERS_MAX]
        status = answer.status_code
        if status in _PASSING or answer.is_server_error:
            return Unavailable(f"the schema registry {self._where} answered {status}: {said}")
        if status == 404 and found.get("error_code", 404) in _NOT_FOUND:
            return UndefinedObject(missing, detail=said)
        if status in {401, 403}:
            return ExternalError(
                f"the schema registry {self._where} lets nobody in: {said}", hint="registry_username, registry_password"
            )
        return ExternalError(f"{missing}: {self._where} answered {status}: {said}")

    @property
    def _where(self) -> str:
        return urlsplit(self._url).netloc.rpartition("@")[2]


def _headers(body: Any) -> dict[str, str]:
    return {"Accept": _ACCEPT} | ({} if body is None else {"Content-Type": _CONTENT})


def _client(options: Mapping[str, Any]) -> httpx.Client:
    import ssl

    import httpx

    verify: ssl.SSLContext | bool = True
    if options["registry_ca"]:
        try:
            verify = ssl.create_default_context(cadata=options["registry_ca"])
        except ssl.SSLError as error:
            raise ExternalError(f"registry_ca holds no certificates: {error}") from error
    user, password = options["registry_username"], options["registry_password"]
    auth = None if user is None else (user, password or "")
    return httpx.Client(auth=auth, timeout=_SECONDS_MAX, verify=verify, follow_redirects=False, trust_env=False)


def require_client() -> None:
    """Raise where the package is not installed."""
    require("httpx", "httpx", "registry", "a schema registry")
