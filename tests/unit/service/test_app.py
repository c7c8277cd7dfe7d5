import time
from pathlib import Path

import pytest
from aiohttp import web
from fakeredis import FakeAsyncRedis, FakeServer
from redis.asyncio import Redis

from service.app import Misconfigured, make_app, read_catalogs
from service.settings import Settings
from storage.catalog import Catalog
from storage.errors import Unavailable
from tests.samples import a_job
from tests.unit.service.conftest import Front, Start


class Evicting(FakeAsyncRedis):
    """A Redis that would forget records."""

    async def execute_command(self, *args: object, **options: object) -> object:
        if args[0] == "INFO":
            return {"maxmemory_policy": "allkeys-lru"}
        return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py leaves it bare


async def set_up(app: web.Application) -> None:
    """Start the application and end it again."""
    runner = web.AppRunner(app)
    try:
        await runner.setup()
    finally:
        await runner.cleanup()


class TestStarting:
    async def test_a_redis_that_forgets_is_refused(
        self, settings: Settings, catalog: Catalog
    ) -> None:
        with pytest.raises(Misconfigured, match="allkeys-lru"):
            await set_up(make_app(settings, redis=Evicting(), catalog=catalog))

    async def test_a_flag_accepts_it(self, settings: Settings, catalog: Catalog) -> None:
        allowed = settings.redis.model_copy(update={"allow_eviction": True})
        changed = settings.model_copy(update={"redis": allowed})
        await set_up(make_app(changed, redis=Evicting(), catalog=catalog))

    async def test_a_redis_that_does_not_answer_is_unavailable(
        self, settings: Settings, catalog: Catalog
    ) -> None:
        nowhere = Redis(port=1, socket_connect_timeout=0.2)
        with pytest.raises(Unavailable):
            await set_up(make_app(settings, redis=nowhere, catalog=catalog))

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"secret": "short"}, "DARKROOM_SECRET"),
            ({"public_url": "nowhere"}, "DARKROOM_PUBLIC_URL"),
            ({"allow_networks": "10.0.0.0/99"}, "DARKROOM_ALLOW_NETWORKS"),
        ],
    )
    def test_a_fault_of_configuration_is_named(
        self, settings: Settings, catalog: Catalog, changes: dict[str, str], said: str
    ) -> None:
        wrong = Settings.model_validate({**settings.model_dump(), **changes})
        with pytest.raises(Misconfigured, match=said):
            make_app(wrong, redis=FakeAsyncRedis(), catalog=catalog)

    @pytest.mark.parametrize(
        "text",
        ["not toml", '[[deployments]]\nname="a"\nmodel="a"\nprovider="nobody"', None],
    )
    def test_a_catalog_that_cannot_be_used_is_refused(
        self, settings: Settings, tmp_path: Path, text: str | None
    ) -> None:
        path = tmp_path / "catalog.toml"
        if text is not None:
            path.write_text(text)
        with pytest.raises(Misconfigured):
            read_catalogs(settings.model_copy(update={"catalog": path}))

    def test_the_shipped_catalog_is_one(self) -> None:
        catalog = read_catalogs(Settings(_env_file=None)).current
        assert catalog.resolve(None) is not None
        for retired in ("dall-e-2", "dall-e-3", "gpt-image-1"):
            assert catalog.resolve(retired) is not None


class TestHealth:
    async def test_it_lives_and_is_ready(self, front: Front) -> None:
        assert (await front.client.get("/livez")).status == 200
        assert (await front.client.get("/readyz")).status == 200

    async def test_it_is_not_ready_without_redis(self, start: Start) -> None:
        server = FakeServer()
        front = await start(redis=FakeAsyncRedis(server=server))
        assert (await front.get("/v1/jobs")).status == 200
        server.connected = False
        assert (await front.client.get("/livez")).status == 200
        assert (await front.client.get("/readyz")).status == 503
        answer = await front.post("/v1/jobs", {"prompt": "x"})
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"


class TestFigures:
    async def test_requests_are_counted_by_route(self, front: Front) -> None:
        await front.get("/v1/jobs/job_1")
        await front.get("/nowhere/at/all")
        text = await (await front.client.get("/metrics")).text()
        line = 'darkroom_http_requests_total{method="GET",route="/v1/jobs/{id}",status="404"} 1.0'
        assert line in text
        assert "job_1" not in text
        assert "nowhere" not in text

    async def test_the_queue_is_shown(self, front: Front) -> None:
        for _ in range(3):
            await front.post("/v1/jobs", {"prompt": "x"})
        text = await (await front.client.get("/metrics")).text()
        assert 'darkroom_queue_tasks{queue="images",state="waiting"} 3.0' in text
        assert 'darkroom_queue_tasks{queue="images",state="standing"} 0.0' in text

    async def test_the_oldest_is_found_behind_the_head(self, front: Front) -> None:
        now = time.time()
        for at, age in enumerate((5, 40, 3)):
            await front.context.jobs.add(a_job(f"job_{at}", created_at=now - age))
        text = await (await front.client.get("/metrics")).text()
        name = 'darkroom_queue_oldest_seconds{queue="images"} '
        (line,) = [line for line in text.splitlines() if line.startswith(name)]
        assert 40 <= float(line.removeprefix(name)) < 45


class TestModels:
    async def test_they_are_listed_with_what_they_can(self, front: Front) -> None:
        page = await (await front.get("/v1/models")).json()
        models = {model["id"]: model for model in page["data"]}
        assert set(models) == {"sketch", "gpt-image-2", "glm-image"}
        assert models["gpt-image-2"]["aliases"] == ["dall-e-3"]
        assert models["gpt-image-2"]["capabilities"]["mask"] is True
        assert models["sketch"]["price"]["per_image"] == 0.01

    async def test_one_is_shown_by_name_or_alias(self, front: Front) -> None:
        shown = await (await front.get("/v1/models/dall-e-3")).json()
        assert (shown["id"], shown["object"]) == ("gpt-image-2", "model")
        assert (await front.get("/v1/models/nope")).status == 404
