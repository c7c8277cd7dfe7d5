"""What the service can be told by its environment: `DARKROOM_…`, groups nested with `__`."""

from pathlib import Path

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from storage.settings import ObjectsSettings, RedisSettings, RetentionSettings


CATALOG = Path(__file__).parent.parent / "deploy" / "darkroom.toml"


class LimitSettings(BaseModel, frozen=True, extra="ignore"):
    """The largest and the longest that the service takes; workers have limits of their own here."""

    image_bytes: int = Field(
        52_428_800, ge=1024, description="Bytes of one image, as given or as made"
    )
    request_bytes: int = Field(67_108_864, ge=1024, description="Bytes of one request body")
    pixels: int = Field(25_000_000, ge=1, description="Pixels of one image that is given")
    side: int = Field(8192, ge=1, description="Pixels of one side of an image")
    prompt_chars: int = Field(32_000, ge=1, description="Characters of a prompt")
    body_idle: float = Field(
        30.0, gt=0, le=600, description="Seconds without a byte after which a body is given up"
    )
    body_total: float = Field(300.0, gt=0, le=3600, description="Seconds for one whole body")
    job_hours: float = Field(
        72.0,
        gt=0,
        le=8760,
        description="Hours after which a job that has not ended fails as `deadline`, from when it "
        "was taken in or had to start",
    )
    max_wait: float = Field(
        600.0, gt=0, le=3600, description="Seconds that a client may wait for a job in one request"
    )
    max_stream: float = Field(
        3600.0, gt=0, le=86_400, description="Seconds that one stream of events may last"
    )
    keep_alive: float = Field(
        15.0, gt=0, le=60, description="Seconds of silence after which a stream says something"
    )
    queued: int = Field(
        100_000, ge=1, description="Jobs that may be open at one time, over all tenants"
    )
    failed_keys_per_minute: int = Field(
        60, ge=1, le=1_000_000, description="Tries with a wrong key that one address has"
    )
    large_bodies: int = Field(
        268_435_456, ge=67_108_864, description="Bytes of JSON bodies held in memory at one time"
    )


class Settings(BaseSettings):
    """All that the service reads from its environment."""

    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_", env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    redis: RedisSettings = RedisSettings()
    objects: ObjectsSettings = ObjectsSettings()
    retention: RetentionSettings = RetentionSettings()
    limits: LimitSettings = LimitSettings()
    host: str = Field("127.0.0.1", description="The address that the service listens on")
    port: int = Field(8400, ge=0, le=65535, description="The port; 0 takes any that is free")
    data: Path = Field(
        Path(".darkroom"), description="A folder for what is on its way, such as uploads"
    )
    catalog: Path = Field(CATALOG, description="The catalog of models and deployments, in TOML")
    public_url: str = Field(
        "",
        description="Where clients reach the service; links begin with it. Default: host and port",
    )
    secret: SecretStr = Field(
        SecretStr(""), description="At least 32 characters; signs links to objects on disk"
    )
    allow_networks: str = Field(
        "",
        description="Networks (CIDR, comma-separated) that webhooks and image URLs may reach "
        "although they are not public",
    )
    trusted_proxies: str = Field(
        "",
        description="Networks (CIDR, comma-separated) of the proxies whose X-Forwarded-For tells "
        "the address of a client",
    )
    log_level: str = Field("info", description="debug, info, warning or error")
    crash_at: str = Field(
        "", description="For trials of crashes only: the point at which a process kills itself"
    )
