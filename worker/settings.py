"""What a worker can be told by its environment: `DARKROOM_…`, groups nested with `__`."""

from pathlib import Path

from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from storage.settings import ObjectsSettings, RedisSettings, RetentionSettings


CATALOG = Path(__file__).parent.parent / "deploy" / "darkroom.toml"


class WorkerSettings(BaseModel, frozen=True, extra="forbid"):
    """How one worker process works."""

    slots: int = Field(200, ge=1, le=2000, description="Image jobs that one worker runs at once")
    reserve: int = Field(
        20,
        ge=0,
        le=2000,
        description="Image jobs that one worker runs beyond its slots, for tenants that have none "
        "waiting",
    )
    webhook_slots: int = Field(
        200, ge=1, le=1000, description="Webhook deliveries that one worker makes at once"
    )
    webhooks_per_receiver: int = Field(
        4, ge=1, le=100, description="Webhook deliveries to one receiver at once, over all workers"
    )
    webhooks_per_tenant: int = Field(
        24, ge=1, le=1000, description="Webhook deliveries of one tenant at once, over all workers"
    )
    lease: float = Field(
        12.0, ge=1, le=300, description="Seconds after which the job of a dead worker is taken over"
    )
    heartbeat: float = Field(
        3.0,
        ge=0.2,
        le=60,
        description="Seconds between two renewals of leases; well below the lease",
    )
    grace: float = Field(
        1.5,
        ge=0,
        le=30,
        description="Seconds without claims at the start and after an outage of Redis",
    )
    drain: float = Field(
        60.0, ge=0, le=3600, description="Seconds that running jobs get to end after SIGTERM"
    )
    patience: float = Field(
        600.0,
        ge=1,
        le=7200,
        description="Seconds that a paid result waits for Redis or the objects",
    )
    attempts: int = Field(4, ge=1, le=20, description="Attempts of one job, over all deployments")
    calls: int = Field(
        4, ge=1, le=32, description="Calls of one attempt at once, where one call makes few images"
    )
    input_timeout: float = Field(
        15.0, gt=0, le=120, description="Seconds to fetch one image that a job names by URL"
    )
    webhook_timeout: float = Field(
        15.0, gt=0, le=60, description="Seconds that a webhook receiver has to answer"
    )
    webhook_scale: float = Field(
        1.0, gt=0, le=10, description="Stretches the schedule of webhook tries; below 1 for trials"
    )
    reap_every: float = Field(
        5.0, ge=0.1, le=600, description="Seconds between two looks for jobs that need one"
    )
    sweep_every: float = Field(
        3600.0, ge=1, le=86_400, description="Seconds between two sweeps for objects without a job"
    )
    label: bool = Field(
        True, description="Label results that the upstream did not sign as made by a model (XMP)"
    )
    watermark_text: str = Field(
        "AI generated",
        min_length=1,
        max_length=80,
        description="The visible mark of jobs that ask for one where the upstream makes none",
    )
    image_children: int = Field(
        0, ge=0, le=64, description="Processes for work on pixels; 0: one per core"
    )


class LimitSettings(BaseModel, frozen=True, extra="ignore"):
    """The largest things a worker takes in from others; the service has limits of its own here."""

    image_bytes: int = Field(
        52_428_800, ge=1024, description="Bytes of one image, as given or as made"
    )
    pixels: int = Field(25_000_000, ge=1, description="Pixels of one image that is given")
    side: int = Field(8192, ge=1, description="Pixels of one side of an image")


class Settings(BaseSettings):
    """All that a worker reads from its environment. API keys of deployments are read by name."""

    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_", env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    redis: RedisSettings = RedisSettings()
    objects: ObjectsSettings = ObjectsSettings()
    retention: RetentionSettings = RetentionSettings()
    worker: WorkerSettings = WorkerSettings()
    limits: LimitSettings = LimitSettings()
    catalog: Path = Field(CATALOG, description="The catalog of models and deployments, in TOML")
    public_url: str = Field(
        "http://127.0.0.1:8400", description="Where clients reach the service; links begin with it"
    )
    secret: SecretStr = Field(
        SecretStr(""),
        description="At least 32 characters; signs links to objects, seals secrets of webhooks",
    )
    allow_networks: str = Field(
        "",
        description="Networks (CIDR, comma-separated) that webhooks and image URLs may reach "
        "although they are not public",
    )
    log_level: str = Field("info", description="debug, info, warning or error")
    crash_at: str = Field(
        "", description="For trials of crashes only: the point at which a process kills itself"
    )
