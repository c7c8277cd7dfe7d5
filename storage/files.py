"""Files: where the records of uploaded images are kept, each until its own end.

A record lives as long as its file may; when it is gone, a sweep finds the object that nobody names.
"""

import asyncio
import secrets

from pydantic import TypeAdapter

from storage import redis_keys
from storage.file import File, FileId
from storage.redis_client import Commands


_FILE: TypeAdapter[File] = TypeAdapter(File)


def new_file_id() -> FileId:
    """Return an id that cannot be guessed: 128 random bits."""
    return FileId("file-" + secrets.token_hex(16))


class Files:
    """The records of all files. Every method may raise `storage.errors.Unavailable`."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def put(self, file: File) -> None:
        """Keep a file, new or changed, until it expires."""
        document = _FILE.dump_json(file, exclude_none=True)
        end_ms = int(file.expires_at * 1000)
        await self._commands.execute("SET", redis_keys.file(file.id), document, "PXAT", end_ms)
        files = redis_keys.files_of(file.tenant)
        await self._commands.execute("ZADD", files, file.created_at, file.id)

    async def get(self, tenant: str, file_id: str) -> File | None:
        """Return a tenant's file; another tenant's is None, as is one that never was."""
        file = await self.find(file_id)
        return file if file is not None and file.tenant == tenant else None

    async def find(self, file_id: str) -> File | None:
        """Return a file by its id alone, for those who serve all tenants."""
        document = await self._commands.execute("GET", redis_keys.file(file_id))
        return None if document is None else _FILE.validate_json(document)

    async def of_tenant(self, tenant: str, *, limit: int) -> list[File]:
        """Return a tenant's latest files, the newest first; those that are over leave the list."""
        key = redis_keys.files_of(tenant)
        ids = await self._commands.execute("ZREVRANGE", key, 0, limit - 1)
        found = await asyncio.gather(*(self.find(file_id.decode()) for file_id in ids))
        over = [file_id for file_id, file in zip(ids, found, strict=True) if file is None]
        if over:
            await self._commands.execute("ZREM", key, *over)
        return [file for file in found if file is not None]

    async def forget_of(self, tenant: str, most: int) -> int:
        """Forget up to `most` of a tenant's files, and return how many."""
        key = redis_keys.files_of(tenant)
        ids = await self._commands.execute("ZRANGE", key, 0, most - 1)
        for file_id in (found.decode() for found in ids):
            await self._commands.execute("DEL", redis_keys.file(file_id))
            await self._commands.execute("ZREM", key, file_id)
        return len(ids)

    async def remove(self, file: File) -> None:
        """Forget a file; its object is somebody else's business."""
        await self._commands.execute("DEL", redis_keys.file(file.id))
        await self._commands.execute("ZREM", redis_keys.files_of(file.tenant), file.id)
