import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from masquerade.v1 import compositor_pb2 as _compositor_pb2
from masquerade.v1 import errors_pb2 as _errors_pb2
from masquerade.v1 import media_pb2 as _media_pb2
from masquerade.v1 import swapper_pb2 as _swapper_pb2
from masquerade.v1 import timeline_pb2 as _timeline_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConsentMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONSENT_METHOD_UNSPECIFIED: _ClassVar[ConsentMethod]
    CONSENT_METHOD_SELF: _ClassVar[ConsentMethod]
    CONSENT_METHOD_ATTESTED: _ClassVar[ConsentMethod]
    CONSENT_METHOD_SYNTHETIC: _ClassVar[ConsentMethod]

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_ANALYSING: _ClassVar[JobState]
    JOB_STATE_LINKING: _ClassVar[JobState]
    JOB_STATE_RENDERING: _ClassVar[JobState]
    JOB_STATE_ASSEMBLING: _ClassVar[JobState]
    JOB_STATE_VERIFYING: _ClassVar[JobState]
    JOB_STATE_PUBLISHING: _ClassVar[JobState]
    JOB_STATE_SUCCEEDED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]
CONSENT_METHOD_UNSPECIFIED: ConsentMethod
CONSENT_METHOD_SELF: ConsentMethod
CONSENT_METHOD_ATTESTED: ConsentMethod
CONSENT_METHOD_SYNTHETIC: ConsentMethod
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_ANALYSING: JobState
JOB_STATE_LINKING: JobState
JOB_STATE_RENDERING: JobState
JOB_STATE_ASSEMBLING: JobState
JOB_STATE_VERIFYING: JobState
JOB_STATE_PUBLISHING: JobState
JOB_STATE_SUCCEEDED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState

class Consent(_message.Message):
    __slots__ = ("method", "statement", "attested_by", "scopes", "expire_time")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    ATTESTED_BY_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    method: ConsentMethod
    statement: str
    attested_by: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, method: _Optional[_Union[ConsentMethod, str]] = ..., statement: _Optional[str] = ..., attested_by: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Publication(_message.Message):
    __slots__ = ("place", "name")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    place: str
    name: str
    def __init__(self, place: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class PublicationState(_message.Message):
    __slots__ = ("publication", "done", "failure", "publish_time")
    PUBLICATION_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_TIME_FIELD_NUMBER: _ClassVar[int]
    publication: Publication
    done: bool
    failure: _errors_pb2.Failure
    publish_time: _timestamp_pb2.Timestamp
    def __init__(self, publication: _Optional[_Union[Publication, _Mapping]] = ..., done: _Optional[bool] = ..., failure: _Optional[_Union[_errors_pb2.Failure, _Mapping]] = ..., publish_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class StateChange(_message.Message):
    __slots__ = ("state", "time", "attempt")
    STATE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    state: JobState
    time: _timestamp_pb2.Timestamp
    attempt: int
    def __init__(self, state: _Optional[_Union[JobState, str]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attempt: _Optional[int] = ...) -> None: ...

class JobIdentity(_message.Message):
    __slots__ = ("name", "identity_id", "portrait_keys", "portrait_names", "consent", "landmarks_key")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_ID_FIELD_NUMBER: _ClassVar[int]
    PORTRAIT_KEYS_FIELD_NUMBER: _ClassVar[int]
    PORTRAIT_NAMES_FIELD_NUMBER: _ClassVar[int]
    CONSENT_FIELD_NUMBER: _ClassVar[int]
    LANDMARKS_KEY_FIELD_NUMBER: _ClassVar[int]
    name: str
    identity_id: str
    portrait_keys: _containers.RepeatedScalarFieldContainer[str]
    portrait_names: _containers.RepeatedScalarFieldContainer[str]
    consent: Consent
    landmarks_key: str
    def __init__(self, name: _Optional[str] = ..., identity_id: _Optional[str] = ..., portrait_keys: _Optional[_Iterable[str]] = ..., portrait_names: _Optional[_Iterable[str]] = ..., consent: _Optional[_Union[Consent, _Mapping]] = ..., landmarks_key: _Optional[str] = ...) -> None: ...

class CastRule(_message.Message):
    __slots__ = ("identity", "person")
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    PERSON_FIELD_NUMBER: _ClassVar[int]
    identity: str
    person: int
    def __init__(self, identity: _Optional[str] = ..., person: _Optional[int] = ...) -> None: ...

class Background(_message.Message):
    __slots__ = ("kind", "asset_key", "rgb", "blur", "asset_id")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ASSET_KEY_FIELD_NUMBER: _ClassVar[int]
    RGB_FIELD_NUMBER: _ClassVar[int]
    BLUR_FIELD_NUMBER: _ClassVar[int]
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    kind: _compositor_pb2.BackgroundKind
    asset_key: str
    rgb: int
    blur: float
    asset_id: str
    def __init__(self, kind: _Optional[_Union[_compositor_pb2.BackgroundKind, str]] = ..., asset_key: _Optional[str] = ..., rgb: _Optional[int] = ..., blur: _Optional[float] = ..., asset_id: _Optional[str] = ...) -> None: ...

class Engines(_message.Message):
    __slots__ = ("detector", "swapper", "swapper_options", "segmenter")
    class SwapperOptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DETECTOR_FIELD_NUMBER: _ClassVar[int]
    SWAPPER_FIELD_NUMBER: _ClassVar[int]
    SWAPPER_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTER_FIELD_NUMBER: _ClassVar[int]
    detector: str
    swapper: str
    swapper_options: _containers.ScalarMap[str, str]
    segmenter: str
    def __init__(self, detector: _Optional[str] = ..., swapper: _Optional[str] = ..., swapper_options: _Optional[_Mapping[str, str]] = ..., segmenter: _Optional[str] = ...) -> None: ...

class ProvenanceSettings(_message.Message):
    __slots__ = ("label", "metadata")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    label: str
    metadata: bool
    def __init__(self, label: _Optional[str] = ..., metadata: _Optional[bool] = ...) -> None: ...

class ProofSettings(_message.Message):
    __slots__ = ("plane_digests", "dump_planes", "segments")
    PLANE_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    DUMP_PLANES_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    plane_digests: bool
    dump_planes: bool
    segments: int
    def __init__(self, plane_digests: _Optional[bool] = ..., dump_planes: _Optional[bool] = ..., segments: _Optional[int] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("asset_key", "identities", "cast", "background", "keep", "apply", "encode", "profile", "engines", "provenance", "labels", "licence_policy", "proof", "segment_frames", "asset_id", "publish", "priority")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ASSET_KEY_FIELD_NUMBER: _ClassVar[int]
    IDENTITIES_FIELD_NUMBER: _ClassVar[int]
    CAST_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    APPLY_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    LICENCE_POLICY_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FRAMES_FIELD_NUMBER: _ClassVar[int]
    ASSET_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    asset_key: str
    identities: _containers.RepeatedCompositeFieldContainer[JobIdentity]
    cast: _containers.RepeatedCompositeFieldContainer[CastRule]
    background: Background
    keep: _containers.RepeatedCompositeFieldContainer[_media_pb2.TimeRange]
    apply: _containers.RepeatedCompositeFieldContainer[_media_pb2.TimeRange]
    encode: _compositor_pb2.EncodeSettings
    profile: str
    engines: Engines
    provenance: ProvenanceSettings
    labels: _containers.ScalarMap[str, str]
    licence_policy: str
    proof: ProofSettings
    segment_frames: int
    asset_id: str
    publish: _containers.RepeatedCompositeFieldContainer[Publication]
    priority: int
    def __init__(self, asset_key: _Optional[str] = ..., identities: _Optional[_Iterable[_Union[JobIdentity, _Mapping]]] = ..., cast: _Optional[_Iterable[_Union[CastRule, _Mapping]]] = ..., background: _Optional[_Union[Background, _Mapping]] = ..., keep: _Optional[_Iterable[_Union[_media_pb2.TimeRange, _Mapping]]] = ..., apply: _Optional[_Iterable[_Union[_media_pb2.TimeRange, _Mapping]]] = ..., encode: _Optional[_Union[_compositor_pb2.EncodeSettings, _Mapping]] = ..., profile: _Optional[str] = ..., engines: _Optional[_Union[Engines, _Mapping]] = ..., provenance: _Optional[_Union[ProvenanceSettings, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., licence_policy: _Optional[str] = ..., proof: _Optional[_Union[ProofSettings, _Mapping]] = ..., segment_frames: _Optional[int] = ..., asset_id: _Optional[str] = ..., publish: _Optional[_Iterable[_Union[Publication, _Mapping]]] = ..., priority: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("sequence", "state", "frames_done", "frames_total", "frames_per_second", "seconds_left", "time")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_DONE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    FRAMES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    SECONDS_LEFT_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    state: JobState
    frames_done: int
    frames_total: int
    frames_per_second: float
    seconds_left: float
    time: _timestamp_pb2.Timestamp
    def __init__(self, sequence: _Optional[int] = ..., state: _Optional[_Union[JobState, str]] = ..., frames_done: _Optional[int] = ..., frames_total: _Optional[int] = ..., frames_per_second: _Optional[float] = ..., seconds_left: _Optional[float] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "spec", "state", "progress", "failure", "artifact", "record", "report", "timeline", "create_time", "update_time", "request_id", "history", "publications", "rerender_of", "expire_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    TIMELINE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    PUBLICATIONS_FIELD_NUMBER: _ClassVar[int]
    RERENDER_OF_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    spec: JobSpec
    state: JobState
    progress: Progress
    failure: _errors_pb2.Failure
    artifact: _media_pb2.ObjectRef
    record: _media_pb2.ObjectRef
    report: _media_pb2.ObjectRef
    timeline: _timeline_pb2.TimelineSummary
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    request_id: str
    history: _containers.RepeatedCompositeFieldContainer[StateChange]
    publications: _containers.RepeatedCompositeFieldContainer[PublicationState]
    rerender_of: str
    expire_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., state: _Optional[_Union[JobState, str]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., failure: _Optional[_Union[_errors_pb2.Failure, _Mapping]] = ..., artifact: _Optional[_Union[_media_pb2.ObjectRef, _Mapping]] = ..., record: _Optional[_Union[_media_pb2.ObjectRef, _Mapping]] = ..., report: _Optional[_Union[_media_pb2.ObjectRef, _Mapping]] = ..., timeline: _Optional[_Union[_timeline_pb2.TimelineSummary, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., request_id: _Optional[str] = ..., history: _Optional[_Iterable[_Union[StateChange, _Mapping]]] = ..., publications: _Optional[_Iterable[_Union[PublicationState, _Mapping]]] = ..., rerender_of: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreateJobRequest(_message.Message):
    __slots__ = ("request_id", "spec")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    spec: JobSpec
    def __init__(self, request_id: _Optional[str] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ...) -> None: ...

class CreateJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "state", "labels", "create_time_from", "create_time_before")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FROM_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_BEFORE_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    state: JobState
    labels: _containers.ScalarMap[str, str]
    create_time_from: _timestamp_pb2.Timestamp
    create_time_before: _timestamp_pb2.Timestamp
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., create_time_from: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., create_time_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class RetryJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class RetryJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class DeleteJobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class DeleteJobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("id", "from_sequence")
    ID_FIELD_NUMBER: _ClassVar[int]
    FROM_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    id: str
    from_sequence: int
    def __init__(self, id: _Optional[str] = ..., from_sequence: _Optional[int] = ...) -> None: ...

class WatchJobResponse(_message.Message):
    __slots__ = ("progress",)
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ...) -> None: ...

class RerenderJobRequest(_message.Message):
    __slots__ = ("id", "request_id", "spec")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    id: str
    request_id: str
    spec: JobSpec
    def __init__(self, id: _Optional[str] = ..., request_id: _Optional[str] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ...) -> None: ...

class RerenderJobResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("stages", "version", "profile", "licence_policy", "places")
    STAGES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    LICENCE_POLICY_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    stages: _containers.RepeatedCompositeFieldContainer[StageDescription]
    version: str
    profile: str
    licence_policy: str
    places: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, stages: _Optional[_Iterable[_Union[StageDescription, _Mapping]]] = ..., version: _Optional[str] = ..., profile: _Optional[str] = ..., licence_policy: _Optional[str] = ..., places: _Optional[_Iterable[str]] = ...) -> None: ...

class StageDescription(_message.Message):
    __slots__ = ("stage", "engines")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    stage: str
    engines: _containers.RepeatedCompositeFieldContainer[EngineDescription]
    def __init__(self, stage: _Optional[str] = ..., engines: _Optional[_Iterable[_Union[EngineDescription, _Mapping]]] = ...) -> None: ...

class EngineDescription(_message.Message):
    __slots__ = ("name", "options", "models", "licences", "is_default", "choices", "missing", "forbidden")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    LICENCES_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    FORBIDDEN_FIELD_NUMBER: _ClassVar[int]
    name: str
    options: _containers.ScalarMap[str, str]
    models: _containers.RepeatedScalarFieldContainer[str]
    licences: _containers.RepeatedScalarFieldContainer[str]
    is_default: bool
    choices: _containers.RepeatedCompositeFieldContainer[_swapper_pb2.OptionChoices]
    missing: _containers.RepeatedScalarFieldContainer[str]
    forbidden: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ..., models: _Optional[_Iterable[str]] = ..., licences: _Optional[_Iterable[str]] = ..., is_default: _Optional[bool] = ..., choices: _Optional[_Iterable[_Union[_swapper_pb2.OptionChoices, _Mapping]]] = ..., missing: _Optional[_Iterable[str]] = ..., forbidden: _Optional[_Iterable[str]] = ...) -> None: ...
