"""`/v1/files`: images that are uploaded once and named in many jobs, each until its own end.

Small ones come as a form. For large ones a client announces the file and puts its bytes to a
signed link, which leads to the bucket itself where there is one; what came is looked at when it
is first asked for.
"""

from typing import Any, Final

import orjson
from aiohttp import web

from service.body import Body, read_json_or_form
from service.context import Call, Context
from service.endpoints.results import send_object
from service.inputs import ready
from service.intake import Given
from service.limits import body_chunks
from service.query import query_of, whole
from service.wire.fields import read
from service.wire.files import FileRequest, UploadRequest
from storage.errors import Conflict, Invalid, Missing, TooLarge
from storage.file import File, FileStatus, Purpose
from storage.files import new_file_id
from storage.local import LocalObjects
from storage.objects import clean_filename


UPLOAD_LIFETIME: Final = 3600.0  # seconds
DAY: Final = 86_400.0
FORM: Final = frozenset({"file"})


async def create(call: Call) -> web.StreamResponse:
    """Take in a file, or announce one and answer with the link to put it to."""
    context = call.context
    body = await read_json_or_form(
        call.request, context.settings.limits, context.intake, files=FORM
    )
    return await (_uploaded(call, body) if body.is_form else _announced(call, body))


async def list_(call: Call) -> web.StreamResponse:
    """List the tenant's files, the newest first."""
    query = query_of(call, {"limit", "purpose"})
    purpose = query.get("purpose")
    if purpose is not None and purpose not in set(Purpose):
        known = ", ".join(Purpose)
        raise Invalid(f"It must be one of {known}.", param="purpose", code="invalid_value")
    files = await call.context.files.of_tenant(
        call.tenant.id, limit=whole(query, "limit", 100, range(1, 1001))
    )
    data = [document_of(file) for file in files if purpose in {None, file.purpose}]
    return _sent({"object": "list", "data": data, "has_more": False})


async def show(call: Call) -> web.StreamResponse:
    """Show a file; one that was announced is looked at, whether it has come by now."""
    file = await _file(call)
    return _sent(document_of(await ready(call.context, file) or file))


async def content(call: Call) -> web.StreamResponse:
    """Send the bytes of a file."""
    file = await ready(call.context, await _file(call))
    if file is None:
        raise Conflict("The file has not been uploaded yet.", code="file_not_ready")
    return await send_object(
        call.request,
        call.context.objects,
        file.key,
        content_type=file.content_type,
        filename=file.filename,
        etag=file.sha256,
    )


async def delete(call: Call) -> web.StreamResponse:
    """Forget a file with its bytes."""
    file = await _file(call)
    await call.context.objects.delete([file.key])
    await call.context.files.remove(file)
    return _sent({"id": file.id, "object": "file", "deleted": True})


async def put_upload(request: web.Request, context: Context) -> web.StreamResponse:
    """Take in what is put to an upload link that this service has signed itself."""
    objects = context.objects
    if not isinstance(objects, LocalObjects):
        raise Missing("There is nothing at this address.")
    path = request.match_info["key"]
    announced = objects.open_upload(path, request.query, now=context.clock())
    if request.content_length != announced.size or request.content_type != announced.content_type:
        raise Invalid(
            "Put exactly what was announced: the same Content-Length and Content-Type.",
            param="Content-Length",
            code="not_as_announced",
        )
    spool = context.intake.spool("file", limit=announced.size)
    try:
        async for chunk in body_chunks(request, context.settings.limits):
            await spool.write(chunk)
        data, _ = await spool.end()
        await objects.put(announced.key, data, content_type=announced.content_type)
    finally:
        spool.discard()
    return web.Response(status=200)


async def _uploaded(call: Call, body: Body) -> web.StreamResponse:
    ask = read(FileRequest, body.typed(FileRequest))
    if len(body.files) != 1:
        raise Invalid("The form needs exactly one file.", param="file", code="missing_parameter")
    given: Given = body.files[0][1]
    known = given.input
    file = File(
        id=new_file_id(),
        tenant=call.tenant.id,
        filename=clean_filename(body.filenames[0]),
        purpose=ask.purpose,
        content_type=known.content_type or "",
        bytes=known.bytes or 0,
        created_at=call.now,
        expires_at=call.now + _life(call, ask),
        width=known.width,
        height=known.height,
        sha256=known.sha256,
    )
    if given.content is not None:
        objects = call.context.objects
        await objects.put(file.key, given.content, content_type=file.content_type)
    await call.context.files.put(file)
    return _sent(document_of(file))


async def _announced(call: Call, body: Body) -> web.StreamResponse:
    ask = read(UploadRequest, body.fields)
    limit = call.context.settings.limits.image_bytes
    if ask.bytes > limit:
        raise TooLarge(f"At most {limit} bytes are taken.", param="bytes", code="image_too_large")
    file = File(
        id=new_file_id(),
        tenant=call.tenant.id,
        filename=clean_filename(ask.filename),
        purpose=ask.purpose,
        content_type=ask.content_type,
        bytes=ask.bytes,
        created_at=call.now,
        expires_at=call.now + _life(call, ask),
        status=FileStatus.PENDING,
    )
    await call.context.files.put(file)
    upload = call.context.objects.upload_link(
        file.key,
        content_type=file.content_type,
        size=file.bytes,
        lifetime=UPLOAD_LIFETIME,
        now=call.now,
    )
    shown = {
        "method": "PUT",
        "url": upload.url,
        "headers": upload.headers,
        "expires_at": int(upload.expires_at),
    }
    return _sent({**document_of(file), "upload": shown})


def _life(call: Call, ask: FileRequest) -> float:
    if ask.expires_after is not None:
        return float(ask.expires_after.seconds)
    return call.context.settings.retention.days * DAY


async def _file(call: Call) -> File:
    file = await call.context.files.get(call.tenant.id, call.request.match_info["id"])
    if file is None:
        raise Missing("There is no such file.", code="file_not_found")
    return file


def document_of(file: File) -> dict[str, Any]:
    """Return the JSON of a file, in OpenAI's words."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "expires_at": int(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed" if file.status is FileStatus.PROCESSED else "uploaded",
        "content_type": file.content_type,
        "width": file.width,
        "height": file.height,
    }


def _sent(document: dict[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(document), content_type="application/json")
