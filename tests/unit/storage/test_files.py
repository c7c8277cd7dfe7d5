import time

import pytest
from fakeredis import FakeAsyncRedis

from storage.file import File, FileStatus, Purpose
from storage.files import Files, new_file_id
from storage.redis_client import Commands


def file(tenant: str = "alice", life: float = 60.0, made: float | None = None) -> File:
    now = time.time()
    return File(
        id=new_file_id(),
        tenant=tenant,
        filename="a.jpg",
        purpose=Purpose.VISION,
        content_type="image/jpeg",
        bytes=3,
        created_at=now if made is None else made,
        expires_at=now + life,
        status=FileStatus.PENDING,
    )


@pytest.fixture
def files() -> Files:
    return Files(Commands(FakeAsyncRedis()))


def test_its_object_lies_in_a_folder_of_its_own() -> None:
    one = file()
    assert one.key == f"t/alice/{one.id}/0.jpg"


async def test_a_file_comes_back_to_its_tenant_alone(files: Files) -> None:
    one = file()
    await files.put(one)
    assert await files.get("alice", one.id) == one
    assert await files.get("bob", one.id) is None
    assert await files.find(one.id) == one


async def test_what_was_uploaded_is_measured(files: Files) -> None:
    one = file()
    await files.put(one)
    await files.put(one.uploaded(640, 480))
    found = await files.get("alice", one.id)
    assert found is not None
    assert (found.status, found.width, found.height) == (FileStatus.PROCESSED, 640, 480)


async def test_the_newest_come_first_and_what_is_over_leaves_the_list(files: Files) -> None:
    old, new, over = file(made=1.0), file(made=2.0), file(made=3.0)
    for one in (old, new, over):
        await files.put(one)
    await files._commands.execute("DEL", f"darkroom:file:{over.id}")
    assert await files.of_tenant("alice", limit=10) == [new, old]
    assert await files.of_tenant("alice", limit=1) == [new]
    await files.remove(new)
    assert await files.of_tenant("alice", limit=10) == [old]


async def test_a_record_lives_as_long_as_its_file(files: Files) -> None:
    one = file(life=60.0)
    await files.put(one)
    left = await files._commands.execute("PTTL", f"darkroom:file:{one.id}")
    assert 59_000 < left <= 60_000
