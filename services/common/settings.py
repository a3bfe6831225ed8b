"""What an operator may choose, where it was chosen, and what it means.

A flag wins over the environment, that over `masquerade.toml` in the data folder, that over the default. Every service
has a class of its own; what all of them share is in `ServiceSettings` and may be set for all (`MASQUERADE_LOG_LEVEL`)
or for one (`MASQUERADE_SEGMENTER__LOG_LEVEL`). A name that nobody reads is an error: a typo that changes nothing is
found too late.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

from pydantic import ByteSize, Field, PrivateAttr, SecretStr, TypeAdapter, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from services.common.access.settings import AccessSettings
from services.common.errors import InvalidSetting
from services.common.secret import read_or_make_secret
from services.common.setting_names import PREFIX, check_environment, check_file, read_file

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting as `masquerade config` prints it."""

    name: str
    value: str
    origin: str
    description: str


@dataclass(frozen=True, slots=True)
class _Found:
    value: Any
    origin: str


def default_data_folder() -> Path:
    """`$XDG_DATA_HOME/masquerade`."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "masquerade"


class ServiceSettings(AccessSettings):
    """What all services share. A service derives its own class and gives its name in `service`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=(), validate_default=True
    )

    service: ClassVar[str] = ""
    """Folder's name of the service below services/; also its table in masquerade.toml."""

    data: Path = Field(default_factory=default_data_folder)
    """Folder for objects, jobs and masquerade.toml. One process owns it."""

    model_repository: Path = CHECKOUT / "model_repository"
    """Folder with one folder for each model."""

    profile: str = "starter"
    """Which models are used where a job names none: starter or studio."""

    policy: Literal["commercial", "research"] = "commercial"
    """What the work is for; models whose licence forbids it are refused."""

    runtime: Literal["onnxruntime", "triton"] = "onnxruntime"
    """Where models run: inside the process, or on a Triton server."""

    triton: str = ""
    """host:port of Triton's gRPC; needed by the runtime triton alone."""

    triton_shared_memory: bool = False
    """Hand pictures to Triton in /dev/shm. Only where both see the same one and the server allows it."""

    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=256)
    """Threads for CPU work in each process. Half as many, at least one, come on top for work that holds the GIL."""

    listen: str = "127.0.0.1:50051"
    """Where gRPC is served: host:port (port 0 takes a free one) or unix:/path."""

    ingest_target: str = "127.0.0.1:50051"
    """Where ingest serves: host:port, dns:///name:port for all pods behind a name, or unix:/path."""

    detector_target: str = "127.0.0.1:50052"
    """Where detector serves: host:port, dns:///name:port for all pods behind a name, or unix:/path."""

    swapper_target: str = "127.0.0.1:50053"
    """Where swapper serves: host:port, dns:///name:port for all pods behind a name, or unix:/path."""

    segmenter_target: str = "127.0.0.1:50054"
    """Where segmenter serves: host:port, dns:///name:port for all pods behind a name, or unix:/path."""

    compositor_target: str = "127.0.0.1:50055"
    """Where compositor serves: host:port, dns:///name:port for all pods behind a name, or unix:/path."""

    orchestrator_target: str = "127.0.0.1:50056"
    """Where orchestrator serves: host:port, dns:///name:port for all pods behind a name, or unix:/path."""

    metrics_listen: str = ""
    """host:port for Prometheus' /metrics; empty serves none."""

    reflection: bool = False
    """Let clients list the services and messages. Useful while developing; tells strangers what there is."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severity that is logged."""

    drain_s: float = Field(default=25.0, ge=0)
    """Seconds that running calls get to finish when the process is told to stop."""

    drain_notice_s: float = Field(default=0.0, ge=0)
    """Seconds between saying NOT_SERVING and refusing calls; in a cluster as long as its endpoints take to notice."""

    rpcs_at_most: int = Field(default=256, ge=1)
    """Calls that one process serves at once; more are told to come again."""

    call_timeout_s: float = Field(default=600.0, gt=0)
    """Deadline of calls to other services where the caller set none."""

    plane_digests: bool = False
    """Write a digest of each rendered frame's planes beside its segment; tests compare them."""

    lane_folder: str = ""
    """Folder shared between containers of one pod for frames in memory; empty passes memory inside a process tree."""

    ring_bytes: ByteSize = ByteSize(256 << 20)
    """Shared memory for frames in flight, allocated when first needed."""

    store: Literal["folder", "s3"] = "folder"
    """Where objects are kept: below the data folder, or in a bucket."""

    s3_endpoint: str = ""
    """host:port of the object store."""

    s3_bucket: str = "masquerade"
    """Bucket for all objects."""

    s3_access_key: SecretStr = SecretStr("")
    """Key id for the object store."""

    s3_secret_key: SecretStr = SecretStr("")
    """Secret for the object store."""

    s3_secure: bool = True
    """Speak TLS to the object store."""

    tenant_bytes: ByteSize = ByteSize(50 << 30)
    """Most bytes that are kept for one tenant: assets, uploads that were begun, results of jobs."""

    uploads_days: int = Field(default=7, ge=1)
    """Days after which an upload that nobody continued, and an asset that no job or identity used, are deleted."""

    database: str = ""
    """`postgresql://...` for jobs, assets, identities and keys; empty keeps them in SQLite below the data folder."""

    secret: SecretStr = SecretStr("")
    """Of this installation, the same for all services: for keyed digests. Empty keeps one in the data folder."""

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for name in cls.model_fields:
            if re.search(r"(^|_)(port|service_host)(_|$)", name):
                # Kubernetes sets MASQUERADE_..._PORT for services of that name; ours could not be told from it.
                raise TypeError(f"a setting may not be called {name}: service links of Kubernetes have such names")

    @field_validator("data", "model_repository")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        return folder.expanduser().absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` found: it knows two names for each setting, and remembers where a value came from."""
        return (init_settings,)

    @classmethod
    def load(cls, flags: Mapping[str, Any] | None = None, *, environ: Mapping[str, str] | None = None) -> Self:
        """Settings of this service from all places.

        Args:
            flags: from the command line, by field; None means not given.
            environ: instead of the process's environment.

        Raises:
            UnknownSetting: a name that nobody reads; the error names the nearest.
            InvalidSetting: a value that does not fit.
        """
        environ = os.environ if environ is None else environ
        fields = set(cls.model_fields)
        check_environment(environ, common=set(ServiceSettings.model_fields), service=cls.service, fields=fields)
        given = {name: _Found(value, f"flag --{name.replace('_', '-')}") for name, value in (flags or {}).items()}
        found = {name: item for name, item in given.items() if item.value is not None}
        for name in fields - found.keys():
            from_environment = cls._in_environment(name, environ)
            if from_environment is not None:
                found[name] = from_environment
        data = Path(found["data"].value).expanduser() if "data" in found else default_data_folder()
        table = read_file(data / "masquerade.toml")
        check_file(table, common=set(ServiceSettings.model_fields), service=cls.service, fields=fields)
        own = table.get(cls.service, {}) if cls.service else {}
        for name in fields - found.keys():
            for source, prefix in ((own, f"{cls.service}."), (table, "")):
                if name in source and name not in found:
                    found[name] = _Found(source[name], f"masquerade.toml {prefix}{name}")
        return cls._made(found)

    @property
    def gil_bound_workers(self) -> int | None:
        """Threads of a service that runs alone for calls that hold the GIL; None for the pool's own share."""
        return None

    def records_url(self) -> str:
        """The records' database."""
        return self.database or f"sqlite:///{self.data / 'records.sqlite'}"

    def secret_bytes(self) -> bytes:
        """The installation's secret, as keyed digests take it."""
        given = self.secret.get_secret_value()
        return given.encode() if given else read_or_make_secret(self.data)

    @classmethod
    def _in_environment(cls, name: str, environ: Mapping[str, str]) -> _Found | None:
        variables = [f"{PREFIX}{cls.service.upper()}__{name.upper()}"] if cls.service else []
        if name in ServiceSettings.model_fields:
            variables.append(f"{PREFIX}{name.upper()}")
        for variable in variables:
            if variable in environ:
                field = cls.model_fields[name]
                return _Found(_parsed(field, environ[variable], variable), f"environment {variable}")
        return None

    @classmethod
    def _made(cls, found: Mapping[str, _Found]) -> Self:
        try:
            made = cls(**{name: item.value for name, item in found.items()})
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            name = str(problem["loc"][0]) if problem["loc"] else cls.service
            origin = found[name].origin if name in found else "default"
            secret = name in cls.model_fields and cls.model_fields[name].annotation is SecretStr
            value = None if secret or name not in found else str(found[name].value)
            raise InvalidSetting(setting=name, value=value, problem=problem["msg"], origin=origin) from None
        made._origins.update({name: item.origin for name, item in found.items()})
        return made

    def model_post_init(self, _context: Any) -> None:
        """Each object its own origins."""
        object.__setattr__(self, "_origins", {})

    def origin(self, name: str) -> str:
        """Where the value of a setting comes from."""
        return self._origins.get(name, "default")

    def lines(self) -> Iterator[SettingLine]:
        """Every setting with its value (secrets hidden), its origin and its meaning."""
        prefix = f"{self.service}." if self.service else ""
        for name, field in type(self).model_fields.items():
            common = name in ServiceSettings.model_fields
            description = " ".join((field.description or "").split())
            yield SettingLine(
                name if common else f"{prefix}{name}", str(getattr(self, name)), self.origin(name), description
            )


def _parsed(field: FieldInfo, text: str, variable: str) -> Any:
    """A variable's text as the field's type: as it stands, else as JSON, else as words between commas."""
    adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, field.annotation))
    words = [word.strip() for word in text.split(",") if word.strip()]
    attempts: tuple[Callable[[], Any], ...] = (
        lambda: adapter.validate_python(text),
        lambda: adapter.validate_json(text),
        lambda: adapter.validate_python(words),
    )
    problems = []
    for attempt in attempts:
        try:
            return attempt()
        except ValidationError as error:
            problems.append(error.errors(include_url=False)[0]["msg"])
    is_secret = field.annotation is SecretStr
    raise InvalidSetting(setting=variable, value=None if is_secret else text, problem=problems[0])
