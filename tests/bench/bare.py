"""The baseline of a submit: a bare aiohttp handler that does one redis-py MULTI SET+ZADD.

`python -m tests.bench.bare PORT REDIS_URL`
"""

import asyncio
import sys
import time
import uuid

import uvloop
from aiohttp import web

from storage.redis_client import connect
from storage.settings import RedisSettings


async def serve(port: int, url: str) -> None:
    """Serve until killed."""
    redis = connect(RedisSettings(url=url, max_connections=64))

    async def submit(request: web.Request) -> web.Response:
        body = await request.read()
        job_id = uuid.uuid4().hex
        async with redis.pipeline(transaction=True) as pipe:
            pipe.set(f"bare:{job_id}", body)
            pipe.zadd("bare:queue", {job_id: time.time()})
            await pipe.execute()
        return web.json_response({"id": job_id}, status=202)

    app = web.Application()
    app.router.add_post("/v1/jobs", submit)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as this:
        this.run(serve(int(sys.argv[1]), sys.argv[2]))
