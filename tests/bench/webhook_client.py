"""What a tenant does with webhooks, for benchmarks: registers receivers, reads the log."""

from typing import Any

import aiohttp


async def register(
    client: aiohttp.ClientSession, url: str, events: tuple[str, ...] = ("job.*",)
) -> tuple[str, str]:
    """Register an endpoint and return its id and its secret."""
    body = {"url": url, "events": list(events)}
    async with client.post("/v1/webhook-endpoints", json=body) as answer:
        assert answer.status == 201, await answer.text()
        made = await answer.json()
        return str(made["id"]), str(made["secret"])


async def tell(client: aiohttp.ClientSession, path: str, **body: Any) -> dict[str, Any]:
    """Post to one of the doors of webhooks and return what it answers."""
    async with client.post(path, json=body) as answer:
        assert answer.status in {200, 202}, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


async def page(client: aiohttp.ClientSession, **query: str | int) -> dict[str, Any]:
    """Read one page of the log."""
    async with client.get("/v1/deliveries", params=query) as answer:
        assert answer.status == 200, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


async def whole_log(client: aiohttp.ClientSession, **query: str) -> list[dict[str, Any]]:
    """Read the log from its newest entry to its oldest."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    for _ in range(1000):
        read = await page(client, limit=100, **query, **cursor)
        found += read["data"]
        if read["next"] is None:
            return found
        cursor = {"cursor": read["next"]}
    raise AssertionError("the log has no end")
