"""A request body, read: the named fields of a JSON object or a form, and the files of a form.

A form's files go to the spool as they come; everything else is small and stays in memory.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import orjson
from aiohttp import web
from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)
from pydantic import BaseModel

from service.intake import Given, Intake, Spool
from service.limits import ROOM, UnsupportedBody, body_chunks, check_headers, read_body
from service.settings import LimitSettings
from service.wire.grammar import parse_object
from storage.errors import Invalid, TooLarge


MAX_PARTS: Final = 100
MAX_TEXT: Final = 262_144  # bytes of one text field of a form
MAX_IDLE: Final = 65_536  # bytes of a form outside of all its parts
MAX_BOUNDARY: Final = 70
LARGE: Final = 1_048_576  # bytes of a JSON body that memory is counted for
LIFTED: Final = 65_536  # characters of a text that is no prompt but an image
_MARK: Final = re.compile("\0image ([0-9]{1,5})")
_DATA_URL: Final = re.compile(rf"data:image/[\w+/=;,.-]{{{LIFTED},}}", re.ASCII)
_PICTURES: Final = frozenset({"image", "image_url", "url", "mask", "result", "input_image_mask"})
_OPAQUE: Final = frozenset({"options", "metadata"})
_WHOLE: Final = re.compile(r"-?[0-9]{1,18}")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?")


@dataclass(slots=True)
class Body:
    """The fields by name; the files in the order in which they came, each with its field's name.

    `filenames` are the clients' own words for the files, and name nothing here. `texts` are images
    in base64 that were lifted out of the fields, where a mark stands for each, so that a model of
    the fields does not hold them while a job is waited for. `many` is what an array holds,
    where one is taken.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    files: list[tuple[str, Given]] = field(default_factory=list)
    filenames: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list, repr=False)
    is_form: bool = False
    many: list[Any] | None = None
    let_go: Callable[[], None] | None = None

    def fingerprint(self, door: str) -> str:
        """Return a digest of what is asked: equal for equal fields in any order."""
        digest = hashlib.sha256(door.encode())
        digest.update(orjson.dumps(self.fields, option=orjson.OPT_SORT_KEYS))
        for text in self.texts:
            digest.update(hashlib.sha256(text.encode()).digest())
        for name, given in self.files:
            digest.update(f"\n{name}\n{given.name}".encode())
        return digest.hexdigest()

    def discard(self) -> None:
        """Let go of everything large: what was needed of it has been kept by now."""
        for _, given in self.files:
            given.discard()
        self.texts.clear()
        if self.let_go is not None:
            self.let_go()
            self.let_go = None

    def text(self, mark: str) -> str:
        """Return what was lifted out of the fields and left this mark, or the text itself."""
        match = _MARK.fullmatch(mark)
        at = -1 if match is None else int(match[1])
        return self.texts[at] if 0 <= at < len(self.texts) else mark

    def typed(self, model: type[BaseModel]) -> dict[str, Any]:
        """Return the fields; those of a form, which are all text, as the types that `model` has."""
        return _typed(self.fields, model) if self.is_form else self.fields


BODY: Final = web.RequestKey("body", Body)


async def read_json(request: web.Request, limits: LimitSettings, *, many: bool = False) -> Body:
    """Return the body as a JSON object, or array where `many` are taken, and nothing but JSON."""
    check_headers(request, limits)
    if not _is_json(request):
        raise UnsupportedBody(
            "Send a JSON object with Content-Type: application/json.",
            param="Content-Type",
            code="unsupported_media_type",
        )
    body = request[BODY] = Body()
    data = await _counted(request, limits, body)
    if many and data.lstrip()[:1] == b"[":
        body.many = parse_object(b'{"_":' + data + b"}")["_"]
        return body
    body.fields = parse_object(data)
    if len(data) > LARGE:
        marks: dict[str, str] = {}
        _lift(body.fields, marks)
        body.texts.extend(marks)
    return body


async def _counted(request: web.Request, limits: LimitSettings, body: Body) -> bytes:
    """Return the bytes of a body; a large one takes room for as long as it is held."""
    if (request.content_length or 0) > LARGE:
        _take_room(request, request.content_length or 0, body)
        return await read_body(request, limits)
    if request.content_length is not None or request.content.is_eof():
        return await read_body(request, limits)
    data = bytearray()
    async with aclosing(body_chunks(request, limits)) as chunks:
        async for chunk in chunks:
            data += chunk
            if len(data) > LARGE and body.let_go is None:
                _take_room(request, limits.request_bytes, body)
    return bytes(data)


def _take_room(request: web.Request, size: int, body: Body) -> None:
    room = request.app[ROOM]
    room.take(size)
    body.let_go = partial(room.give_back, size)


async def read_json_or_nothing(request: web.Request, limits: LimitSettings) -> Body:
    """Return the body as a JSON object; no body at all is an empty one."""
    return await read_json(request, limits) if request.body_exists else Body()


async def read_json_or_form(
    request: web.Request,
    limits: LimitSettings,
    intake: Intake,
    *,
    files: frozenset[str],
    many: bool = False,
) -> Body:
    """Return the body as JSON or a form; `files` names a form's fields that are files."""
    if request.content_type == "multipart/form-data":
        check_headers(request, limits)
        body = request[BODY] = Body(is_form=True)
        return await _Form(request, limits, intake, files, body).read()
    return await read_json(request, limits, many=many)


def _is_json(request: web.Request) -> bool:
    # Another charset than UTF-8 is no JSON (RFC 8259); so is no charset that is not named.
    charset = (request.charset or "utf-8").lower()
    return request.content_type == "application/json" and charset in {"utf-8", "utf8"}


class _Form:
    def __init__(
        self,
        request: web.Request,
        limits: LimitSettings,
        intake: Intake,
        files: frozenset[str],
        body: Body,
    ) -> None:
        self._request = request
        self._limits = limits
        self._intake = intake
        self._names = files
        self._body = body
        self._name = ""
        self._filename = ""
        self._spool: Spool | None = None
        self._text: bytearray | None = None
        self._outside = 0
        self._late: list[Spool] = []

    async def read(self) -> Body:
        try:
            parser = PushMultipartParser(
                _boundary(self._request), max_segment_count=MAX_PARTS, max_header_size=4096
            )
            async with aclosing(body_chunks(self._request, self._limits)) as chunks:
                async for chunk in chunks:
                    await self._feed(parser, chunk)
            parser.close()
            await self._receive_late()
        except BaseException as error:
            self._discard()
            if isinstance(error, ParserLimitReached):
                raise Invalid(
                    "The form has too many or too large parts.", code="invalid_form"
                ) from None
            if isinstance(error, MultipartError):
                raise Invalid("The body is not a valid form.", code="invalid_form") from None
            raise
        return self._body

    async def _feed(self, parser: PushMultipartParser, chunk: bytes) -> None:
        outside = self._spool is None and self._text is None
        for event in parser.parse(chunk):
            outside = False
            if event is None:
                await self._end()
            elif isinstance(event, MultipartSegment):
                self._begin(event)
            elif self._spool is not None:
                await self._spool.write(event)
            elif self._text is not None:
                self._text += event
                if len(self._text) > MAX_TEXT:
                    raise TooLarge(
                        f"A text field may have at most {MAX_TEXT} bytes.",
                        param=self._name,
                        code="field_too_large",
                    )
        self._outside += len(chunk) if outside else 0
        if self._outside > MAX_IDLE:
            raise Invalid("The body is not a valid form.", code="invalid_form")

    def _begin(self, part: MultipartSegment) -> None:
        self._name = (part.name or "")[:200]
        _check_part(part, self._name)
        plain = self._name.partition("[")[0]
        if part.filename is None:
            self._text = bytearray()
        elif plain in self._names:
            self._filename = part.filename
            self._spool = self._intake.spool(plain)
        else:
            raise Invalid(f"{self._name[:100]} is not a file.", param=self._name[:100])

    async def _end(self) -> None:
        if self._spool is not None:
            spool, self._spool = self._spool, None
            plain = self._name.partition("[")[0]
            self._body.filenames.append(self._filename)
            if plain == "file":  # what it should be is said by `purpose`, which may come later
                self._late.append(spool)
            else:
                self._body.files.append((plain, await self._intake.received(spool, plain)))
        elif self._text is not None:
            text, self._text = self._text, None
            try:
                _put(self._body.fields, self._name, text.decode())
            except UnicodeDecodeError:
                raise Invalid(
                    "A text field is not valid UTF-8.", param=self._name[:100], code="invalid_form"
                ) from None

    async def _receive_late(self) -> None:
        """Take in the files that wait for their purpose: requests of a batch are no image."""
        lines = self._body.fields.get("purpose") == "batch"
        receive = self._intake.received_lines if lines else self._intake.received
        for spool in self._late:
            self._body.files.append(("file", await receive(spool, "file")))

    def _discard(self) -> None:
        for spool in (self._spool, *self._late):
            if spool is not None:
                spool.discard()
        self._body.discard()


def _boundary(request: web.Request) -> str:
    _, options = parse_options_header(request.headers.get("Content-Type", ""))
    boundary = str(options.get("boundary", ""))
    if not 1 <= len(boundary) <= MAX_BOUNDARY or not boundary.isascii():
        raise Invalid("The form has no valid boundary.", param="Content-Type", code="invalid_form")
    return boundary


def _check_part(part: MultipartSegment, name: str) -> None:
    if not name:
        raise Invalid("A part of the form has no name.", code="invalid_form")
    encoding = str(part.header("Content-Transfer-Encoding", "binary"))
    if encoding.lower() not in {"7bit", "8bit", "binary"} or part.header("Content-Encoding"):
        raise Invalid("A part of the form is encoded.", param=name[:100], code="invalid_form")
    if (part.content_type or "").startswith("multipart/"):
        raise Invalid("A form holds no other form.", param=name[:100], code="invalid_form")


def _put(fields: dict[str, Any], name: str, text: str) -> None:
    """Put a form's text in its place; `name[]` makes a list and `name[key]` an object."""
    plain, bracket, key = name.partition("[")
    if not bracket:
        if plain in fields:
            raise Invalid("A field is there twice.", param=plain[:100], code="invalid_form")
        fields[plain] = text
    elif key == "]":
        _held(fields, plain, list).append(text)
    else:
        _held(fields, plain, dict)[key.rstrip("]")] = text


def _held(fields: dict[str, Any], name: str, kind: type[Any]) -> Any:
    held = fields.setdefault(name, kind())
    if not isinstance(held, kind):
        raise Invalid("A field is there in two forms.", param=name[:100], code="invalid_form")
    return held


# -- images among the fields --------------------------------------------------------------------


def _lift(value: Any, marks: dict[str, str]) -> None:
    """Move long texts from where images can be to `marks`, each once, and leave its mark."""

    def marked(text: str) -> str:
        return marks.setdefault(text, f"\0image {len(marks)}")

    places = value.items() if isinstance(value, dict) else enumerate(value)
    for place, item in list(places):
        if isinstance(item, dict | list):
            if place not in _OPAQUE:
                _lift(item, marks)
        elif not isinstance(item, str) or len(item) <= LIFTED:
            continue
        elif isinstance(value, list) or place in _PICTURES:
            value[place] = marked(item)
        elif place == "content":
            value[place] = _DATA_URL.sub(lambda found: marked(found[0]), item)


# -- the text of a form as the types of a model --------------------------------------------------


def _typed(fields: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    typed = dict(fields)
    for name, text in fields.items():
        known = model.model_fields.get(name)
        if known is None:
            continue
        kinds = frozenset(_kinds(known.annotation))
        if isinstance(text, str):
            typed[name] = _read(text, kinds)
        elif isinstance(text, dict):
            below = next((kind for kind in kinds if issubclass(kind, BaseModel)), None)
            typed[name] = text if below is None else _typed(text, below)
    return typed


def _read(text: str, kinds: frozenset[type[Any]]) -> Any:
    """Return the value that the text stands for, or the text itself, for its field to refuse."""
    if str in kinds:
        return text
    if bool in kinds and text in {"true", "false"}:
        return text == "true"
    if int in kinds and _WHOLE.fullmatch(text):
        return int(text)
    if float in kinds and _DECIMAL.fullmatch(text):
        return float(text)
    if not kinds.isdisjoint({dict, tuple}) and text[:1] in {"{", "["}:
        return parse_object(b'{"_":' + text.encode() + b"}")["_"]
    return text


def _kinds(annotation: Any) -> Iterable[type[Any]]:
    """Yield the plain types that an annotation allows."""
    origin = get_origin(annotation)
    if origin in {Union, UnionType, Annotated}:
        for argument in get_args(annotation):
            yield from _kinds(argument)
    elif origin is not None:
        yield origin
    elif isinstance(annotation, type):
        yield annotation
