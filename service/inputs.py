"""The images that a request names: by URL, data URL, base64 or file, or as parts of a form."""

from collections.abc import Sequence
from typing import Final

from service.body import BODY, Body
from service.context import Call, Context
from service.intake import Given
from service.responses import image_of
from service.wire.pictures import Picture
from storage.errors import Invalid
from storage.file import File, FileStatus
from storage.image import Image
from storage.request import Input


MAX_IMAGES: Final = 16
FILES: Final = frozenset({"image", "images", "mask"})


async def named(call: Call, picture: Picture, param: str) -> Given:
    """Return the one image that a field names."""
    if picture.image_url is not None:
        text = call.request[BODY].text(picture.image_url)
        return await call.context.intake.read(text, param)
    given = await _kept(call, picture.file_id or "")
    if given is None:
        raise Invalid("There is no such file.", param=param, code="file_not_found")
    return given


async def _kept(call: Call, name: str) -> Given | None:
    """Return an image of the tenant's that is kept already, by its name."""
    if (file := await call.context.files.get(call.tenant.id, name)) is not None:
        if not file.purpose.is_image:
            return None
        there = await ready(call.context, file)
        return None if there is None else _as_given(there)
    if (made := image_of(name)) is None:
        return None
    job_id, index = made
    job = await call.context.jobs.get(call.tenant.id, job_id)
    if job is None or index >= len(job.images) or job.images[index].key is None:
        return None
    return _as_given(job.images[index])


def _as_given(kept: File | Image) -> Given:
    return Given(
        Input(
            key=kept.key,
            content_type=kept.content_type,
            width=kept.width,
            height=kept.height,
            bytes=kept.bytes,
            sha256=kept.sha256,
        )
    )


async def ready(context: Context, file: File) -> File | None:
    """Return the file with its bytes there, or None while they are not.

    One that was put to its upload link is looked at now, once; raises `Invalid` for no image.
    """
    if file.status is FileStatus.PROCESSED:
        return file
    stat = await context.objects.stat(file.key)
    if stat is None or stat.size != file.bytes:
        return None
    facts = await context.intake.look(file.key, stat.size, "file")
    if facts.content_type != file.content_type:
        raise Invalid(
            f"The file is {facts.content_type} and not {file.content_type}.",
            param="file",
            code="invalid_image",
        )
    there = file.uploaded(facts.width, facts.height)
    await context.files.put(there)
    return there


async def all_named(call: Call, pictures: Sequence[Picture], param: str) -> tuple[Given, ...]:
    """Return the images that a list names, in order; `param` is the list's name."""
    if len(pictures) > MAX_IMAGES:
        raise Invalid(f"At most {MAX_IMAGES} images are taken.", param=param, code="invalid_value")
    return tuple(
        [await named(call, picture, f"{param}.{at}") for at, picture in enumerate(pictures)]
    )


def files_of(body: Body) -> tuple[Given, ...]:
    """Return the images of a form, in order."""
    files = tuple(given for name, given in body.files if name != "mask")
    if len(files) > MAX_IMAGES:
        raise Invalid(
            f"At most {MAX_IMAGES} images are taken.", param="image", code="invalid_value"
        )
    return files


def mask_of(body: Body) -> Given | None:
    """Return the mask of a form, if there is one."""
    masks = [given for name, given in body.files if name == "mask"]
    if len(masks) > 1:
        raise Invalid("There is more than one mask.", param="mask", code="invalid_value")
    return masks[0] if masks else None
