"""Hostile requests by the table: each is refused with a status and a name, and leaves nothing.

The numbers are those of the threat list: A framing and grammar of JSON (1-21), B text (22-33),
C numbers and enums (34-39), D base64 (40-48), E forms (49-61).
"""

import base64
import io
import json
import time
from typing import Any, NamedTuple

import pytest
from aiohttp import ClientResponse

from tests.unit.service.conftest import Front, Start
from tests.unit.service.pictures import png


JSON = "application/json"
DOORS = ("/v1/jobs", "/v1/images/generations", "/v1/images/edits")
IMAGE = base64.b64encode(png()).decode()


class Body(NamedTuple):
    name: str
    data: bytes
    content_type: str | None = JSON
    param: str | None = None
    status: int = 400


def _nested(opening: str, closing: str, depth: int) -> bytes:
    return (opening * depth + "1" + closing * depth).encode()


GRAMMAR = [
    Body("H1 empty", b""),
    Body("H2 invalid UTF-8", b'{"prompt": "\xff\xfe"}'),
    Body("H2 overlong UTF-8", b'{"prompt": "\xc0\xaf"}'),
    Body("H3 byte order mark", b'\xef\xbb\xbf{"prompt": "x"}'),
    Body("H4 UTF-16", '{"prompt": "x"}'.encode("utf-16")),
    Body("H4 UTF-32", '{"prompt": "x"}'.encode("utf-32")),
    *(
        Body(f"H5 {charset}", b'{"prompt": "x"}', f"{JSON}; charset={charset}", status=415)
        for charset in ("bogus", "rot13", "zlib_codec", "utf-7", "unicode_escape", "latin-1")
    ),
    Body("H6 truncated", b'{"prompt": "x'),
    Body("H7 trailing garbage", b'{"prompt": "x"} x'),
    Body("H7 two documents", b'{"prompt": "x"}{"prompt": "y"}'),
    *(
        Body(f"H8 {number}", f'{{"prompt": "x", "start_within": {number}}}'.encode())
        for number in ("NaN", "Infinity", "-Infinity", "1e999")
    ),
    Body("H9 5,000 digits", b'{"prompt": "x", "n": ' + b"9" * 5000 + b"}"),
    Body("H10 4,299 digits", b'{"prompt": "x", "n": ' + b"9" * 4299 + b"}"),
    Body("H10 300 digits", b'{"prompt": "x", "n": ' + b"9" * 300 + b"}", param="n"),
    Body("H11 100,000 brackets", b"[" * 100_000),
    Body("H12 5,000 objects", _nested('{"a":', "}", 5000)),
    Body("H13 900 levels", b'{"prompt":"x","options":' + _nested('{"a":', "}", 900) + b"}"),
    Body("H13 20 levels", b'{"prompt":"x","options":' + _nested('{"a":', "}", 20) + b"}"),
    Body("H14 n twice", b'{"prompt": "x", "n": 1, "n": 2}', param="n"),
    Body("H14 prompt twice", b'{"prompt": "x", "prompt" : "y"}', param="prompt"),
    Body("H14 twice below", b'{"prompt": "x", "metadata": {"a": "1", "a": "2"}}', param="a"),
    *(Body(f"H16 {value}", value.encode()) for value in ("null", "[]", '"x"', "1", "true")),
    Body(
        "H18 very many keys",
        ("{" + ",".join(f'"k{i}":1' for i in range(200_000)) + "}").encode(),
    ),
    Body(
        "H19 10,000 unknown fields",
        json.dumps({"prompt": "x", **{f"k{i}": 1 for i in range(10_000)}}).encode(),
    ),
    Body("H20 no type", b'{"prompt": "x"}', None, status=415),
    Body("H20 text", b'{"prompt": "x"}', "text/plain", status=415),
    Body("H20 a form", b'{"prompt": "x"}', "application/x-www-form-urlencoded", status=415),
]

NATIVE = [
    ("H15 __proto__", {"__proto__": {}}, "__proto__"),
    ("H15 constructor", {"constructor": {}}, "constructor"),
    ("H15 $ref", {"$ref": "#"}, "$ref"),
    ("H19 misspelt", {"promt": "x"}, "promt"),
    ("H17 prompt number", {"prompt": 1}, "prompt"),
    ("H17 prompt list", {"prompt": ["x"]}, "prompt"),
    ("H17 strict word", {"strict": "yes"}, "strict"),
    ("H17 strict number", {"strict": 1}, "strict"),
    ("H17 metadata list", {"metadata": []}, "metadata"),
    ("H17 metadata value", {"metadata": {"a": 1}}, "metadata.a"),
    ("H17 size number", {"size": 1024}, "size"),
    ("H17 images object", {"images": {}}, "images"),
    ("H17 image number", {"images": [1]}, "images.0"),
    ("H17 options list", {"options": []}, "options"),
    ("H22 long prompt", {"prompt": "x" * 32_001}, "prompt"),
    ("H22 a megabyte", {"prompt": "x" * 1_000_000}, "prompt"),
    ("H23 empty", {"prompt": ""}, "prompt"),
    ("H23 blanks", {"prompt": " \n\t"}, "prompt"),
    ("H23 invisible", {"prompt": "\u200b\ufeff"}, "prompt"),
    ("H24 NUL", {"prompt": "a\x00b"}, "prompt"),
    ("H28 CR LF in model", {"model": "a\r\nb"}, "model"),
    ("H29 forged line in quality", {"quality": '\n{"level":"error"}'}, "quality"),
    *((f"H34 n={n!r}", {"n": n}, "n") for n in (0, -1, 11, 10**9, 2**31, 2**63, 2**64)),
    *((f"H34 n={n!r}", {"n": n}, "n") for n in (1.5, 1.0, "1", True, None, [1])),
    *(
        (f"H35 size={size[:20]!r}", {"size": size}, "size")
        for size in (
            *("0x0", "-1x5", "99999999x1", "1024X1024", "1024×1024", "1024x1024x3"),
            *(" 1024x1024", "1024x1024 ", "\uff11\uff10\uff12\uff14x1024", "x" * 10_000, ""),
            *("1024x", "x1024", "16385x1", "1024x1024\n", "\u0661x\u0661"),
        )
    ),
    ("H36 unknown model", {"model": "nope"}, "model"),
    ("H36 model path", {"model": "../../etc/passwd"}, "model"),
    ("H36 long model", {"model": "m" * 10_000}, "model"),
    ("H36 unknown format", {"output_format": "bmp"}, "output_format"),
    ("H36 unknown background", {"background": "blue"}, "background"),
    ("H37 seed below", {"seed": -1}, "seed"),
    ("H37 seed above", {"seed": 2**32}, "seed"),
    ("H37 temperature", {"temperature": 1.0}, "temperature"),
    ("H38 mask alone", {"mask": IMAGE}, "mask"),
    ("H38 compression", {"output_compression": 101}, "output_compression"),
    ("H39 over max_cost", {"n": 10, "max_cost": 0.01}, "max_cost"),
    ("H95 long webhook", {"webhook_url": "https://e.com/" + "x" * 8000}, "webhook_url"),
    ("H83 file", {"images": ["file:///etc/passwd"]}, "images.0"),
    ("H84 loopback", {"images": ["http://127.0.0.1/a.png"]}, "images.0"),
    ("H85 metadata service", {"images": ["http://169.254.169.254/a"]}, "images.0"),
    ("H87 user in URL", {"images": ["https://a@example.com/a.png"]}, "images.0"),
    ("webhook to loopback", {"webhook_url": "https://127.0.0.1/"}, "webhook_url"),
    ("webhook without TLS", {"webhook_url": "http://example.com/"}, "webhook_url"),
    ("unknown event", {"webhook_events": ["job.done"]}, "webhook_events"),
    ("start_within nothing", {"start_within": 0}, "start_within"),
    ("priority", {"priority": 2}, "priority"),
    ("on_unknown", {"on_unknown": "maybe"}, "on_unknown"),
    ("H120 server fields", {"tenant": "bob"}, "tenant"),
    ("H120 status", {"status": "succeeded"}, "status"),
]

BASE64 = [
    ("H40 no padding", IMAGE.rstrip("=") if IMAGE.endswith("=") else IMAGE[:-1]),
    ("H40 extra padding", IMAGE + "===="),
    ("H40 line breaks", IMAGE[:76] + "\n" + IMAGE[76:]),
    ("H40 spaces", IMAGE[:76] + " " + IMAGE[76:]),
    ("H40 URL-safe", IMAGE[:8] + "-_-_" + IMAGE[12:]),
    ("H40 only padding", "===="),
    ("H40 exclamation", "!!!!"),
    ("H41 two strings", "YQ==" + IMAGE),
    ("H42 look-alikes", "\u0430" + IMAGE[1:]),
    (
        "H43 data URL of base64 of a data URL",
        base64.b64encode(b"data:image/png;base64,AA").decode(),
    ),
    ("H44 html", "data:text/html;base64," + IMAGE),
    ("H44 no type", "data:;base64," + IMAGE),
    ("H44 parameters", "data:image/png" + ";a=b" * 10_000 + ";base64," + IMAGE),
    ("H44 no comma", "data:image/png;base64" + IMAGE),
    ("H44 percent", "data:image/png,%89PNG%0D%0A"),
    ("H44 svg", "data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode()),
    ("H47 half an image", base64.b64encode(png()[: len(png()) // 2]).decode()),
    ("H48 base64 of base64", base64.b64encode(IMAGE.encode()).decode()),
    ("no image", base64.b64encode(b"hello world").decode()),
    ("one byte", "AA=="),
    ("H62 50000x50000", base64.b64encode(png(1, 1)[:16] + b"\0\0\xc3\x50" * 2).decode()),
]


def _part(head: str, data: bytes = b"x") -> bytes:
    return b"--B\r\n" + head.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + data + b"\r\n"


END = b"--B--\r\n"
PROMPT = _part('Content-Disposition: form-data; name="prompt"')
PICTURE = _part('Content-Disposition: form-data; name="image"; filename="a.png"', png())
FORM = "multipart/form-data; boundary=B"
FORMS = [
    Body("H49 no boundary", PROMPT + END, "multipart/form-data"),
    Body("H49 long boundary", b"", f"multipart/form-data; boundary={'B' * 200}"),
    Body("H49 empty boundary", PROMPT + END, 'multipart/form-data; boundary=""'),
    Body("H49 quoted boundary", PROMPT, 'multipart/form-data; boundary="B B"'),
    Body("H50 no end", PROMPT + PICTURE, FORM),
    Body("H50 cut end", PROMPT + PICTURE + b"--B-", FORM),
    Body(
        "H51 101 parts",
        PICTURE + PROMPT + _part('Content-Disposition: form-data; name="a[]"') * 100 + END,
        FORM,
    ),
    Body(
        "H52 nested",
        PROMPT
        + _part(
            'Content-Disposition: form-data; name="image"\r\n'
            "Content-Type: multipart/mixed; boundary=C"
        )
        + END,
        FORM,
    ),
    Body(
        "H53 _charset_",
        _part('Content-Disposition: form-data; name="_charset_"', b"\xff") + END,
        FORM,
    ),
    Body(
        "H54 encoded part",
        PROMPT
        + _part(
            'Content-Disposition: form-data; name="image"; filename="a"\r\nContent-Encoding: gzip'
        )
        + END,
        FORM,
        param="image",
    ),
    Body(
        "H55 base64 part",
        PROMPT
        + _part(
            'Content-Disposition: form-data; name="image"; filename="a"\r\n'
            "Content-Transfer-Encoding: base64",
            b"!!!!",
        )
        + END,
        FORM,
        param="image",
    ),
    Body(
        "H56 20 kB header",
        _part('Content-Disposition: form-data; name="image"; x="' + "y" * 20_000 + '"') + END,
        FORM,
    ),
    Body(
        "H56 500 headers",
        _part('Content-Disposition: form-data; name="image"' + "\r\nX: y" * 500) + END,
        FORM,
    ),
    Body(
        "H58 empty name",
        PICTURE + PROMPT + _part('Content-Disposition: form-data; name=""') + END,
        FORM,
    ),
    Body("H58 no name", PICTURE + PROMPT + _part("Content-Disposition: form-data") + END, FORM),
    Body("H58 no disposition", PICTURE + PROMPT + _part("X: y") + END, FORM),
    Body("H58 50 images", PROMPT + PICTURE * 50 + END, FORM),
    Body("H58 prompt twice", PICTURE + PROMPT * 2 + END, FORM, param="prompt"),
    Body(
        "H59 empty file",
        PROMPT + _part('Content-Disposition: form-data; name="image"; filename="a"', b"") + END,
        FORM,
        param="image",
    ),
    Body(
        "H59 file as text",
        PICTURE + _part('Content-Disposition: form-data; name="prompt"; filename="a"') + END,
        FORM,
        param="prompt",
    ),
    Body(
        "H59 text as file",
        PROMPT + _part('Content-Disposition: form-data; name="image"', b"hello") + END,
        FORM,
        param="image",
    ),
    Body(
        "H60 invalid UTF-8",
        PICTURE + _part('Content-Disposition: form-data; name="prompt"', b"\xff\xfe") + END,
        FORM,
        param="prompt",
    ),
    Body("H61 long preamble", b"x" * 1_000_000 + b"\r\n" + PROMPT + PICTURE + END, FORM),
    Body("H61 long epilogue", PROMPT + PICTURE + END + b"x" * 1_000_000, FORM),
    Body("empty", b"", FORM),
    Body("bare line feeds", (PROMPT + PICTURE + END).replace(b"\r\n", b"\n"), FORM),
    Body(
        "long text",
        PICTURE + _part('Content-Disposition: form-data; name="prompt"', b"x" * 300_000) + END,
        FORM,
        status=413,
    ),
]


async def send(front: Front, path: str, body: bytes, content_type: str | None) -> ClientResponse:
    headers = {} if content_type is None else {"Content-Type": content_type}
    return await front.client.post(
        path,
        data=io.BytesIO(body),
        headers={**front.headers, **headers},
        skip_auto_headers={"Content-Type"},
        timeout=None,
    )


async def refused(front: Front, answer: ClientResponse, status: int) -> dict[str, Any]:
    """Check the shape of a refusal and that it left nothing behind; return the error."""
    body = await answer.read()
    assert answer.status == status, body[:300]
    error: dict[str, Any] = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"]
    assert answer.headers["X-Request-Id"]
    assert len(body) < 1000
    assert await front.queued() == 0
    assert await front.kept() == []
    assert front.spooled() == []
    return error


@pytest.mark.parametrize("case", GRAMMAR, ids=lambda case: case.name)
async def test_a_body_that_is_no_plain_json_is_refused(front: Front, case: Body) -> None:
    for door in DOORS:
        began = time.perf_counter()
        answer = await send(front, door, case.data, case.content_type)
        error = await refused(front, answer, case.status)
        assert time.perf_counter() - began < 1
        if case.param is not None and (door == "/v1/jobs" or error["code"] == "invalid_json"):
            assert error["param"] == case.param


@pytest.mark.parametrize(("name", "fields", "param"), NATIVE, ids=[case[0] for case in NATIVE])
async def test_a_field_that_is_not_right_is_named(
    front: Front, name: str, fields: dict[str, Any], param: str
) -> None:
    answer = await front.post("/v1/jobs", {"prompt": "x", **fields})
    status = 404 if param == "model" and answer.status == 404 else 400
    error = await refused(front, answer, status)
    assert error["param"] == param
    value = str(next(iter(fields.values())))
    assert len(value) < 40 or value not in error["message"]


@pytest.mark.parametrize(("name", "text"), BASE64, ids=[case[0] for case in BASE64])
async def test_what_is_no_image_is_refused(front: Front, name: str, text: str) -> None:
    native = await front.post("/v1/jobs", {"prompt": "x", "images": [text]})
    assert (await refused(front, native, 400))["param"] == "images.0"
    edit = await front.post("/v1/images/edits", {"prompt": "x", "images": [{"image_url": text}]})
    assert (await refused(front, edit, 400))["param"] == "images.0"


@pytest.mark.parametrize("case", FORMS, ids=lambda case: case.name)
async def test_a_form_that_is_not_right_is_refused(front: Front, case: Body) -> None:
    for door in ("/v1/jobs", "/v1/images/edits"):
        answer = await send(front, door, case.data, case.content_type)
        error = await refused(front, answer, case.status)
        if case.param is not None:
            assert error["param"] == case.param


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "x", "gzip, gzip"])
async def test_a_compressed_body_is_refused(front: Front, encoding: str) -> None:
    for door in DOORS:
        answer = await front.client.post(
            door,
            data=b"\x1f\x8b\x08\x00",
            headers={**front.headers, "Content-Type": JSON, "Content-Encoding": encoding},
        )
        assert (await refused(front, answer, 415))["param"] == "Content-Encoding"


async def test_a_decoded_image_over_the_limit_is_refused_before_it_is_decoded(
    start: Start,
) -> None:
    front = await start()
    limits = front.context.settings.limits.model_copy(update={"image_bytes": 10_000})
    small = await start(limits=limits)
    text = base64.b64encode(png() + bytes(20_000)).decode()
    answer = await small.post("/v1/jobs", {"prompt": "x", "images": [text]})
    assert (await refused(small, answer, 413))["param"] == "images.0"


ACCEPTED = [
    "x" * 32_000,
    "\u202e\u2066 right to left",
    "e" + "\u0301" * 10_000,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 100,
    "line one\r\nline two \x1b[31mred",
    '\n{"level":"error"}',
    "{{7*7}} ${jndi:ldap://x} %s%n '; DROP TABLE jobs;-- <script>alert(1)</script>",
    "dk_live_aaaaaaaaaaaa_" + "A" * 43 + "_00000000",
    '"quotes": {"and": "colons"}',
    "\u0000"[:0] + "plain",
]


@pytest.mark.parametrize("prompt", ACCEPTED, ids=range(len(ACCEPTED)))
async def test_odd_prompts_are_only_text(front: Front, prompt: str) -> None:
    answer = await front.post("/v1/jobs", {"prompt": prompt, "metadata": {"p": prompt[:100]}})
    job = await answer.json()
    assert answer.status == 202, job
    assert job["request"]["prompt"] == prompt
    shown = await (await front.get(f"/v1/jobs/{job['id']}")).json()
    assert shown["request"]["prompt"] == prompt
    for name in answer.headers:
        assert prompt[:20] not in answer.headers[name]


@pytest.mark.parametrize(
    "text",
    ["9" * 100_000, "1x" * 50_000, "data:image/png" + ";" * 100_000, "x" * 100_000, "W:" * 50_000],
)
async def test_no_pattern_takes_long(front: Front, text: str) -> None:
    began = time.perf_counter()
    for fields in (
        {"size": text},
        {"aspect_ratio": text},
        {"images": [text]},
        {"webhook_url": text},
        {"model": text},
    ):
        answer = await front.post("/v1/jobs", {"prompt": "x", **fields})
        assert answer.status in {400, 404}
    answer = await front.client.get(
        "/v1/jobs", headers={"Authorization": "Bearer dk_live_" + text[:7000]}
    )
    assert answer.status == 401
    assert time.perf_counter() - began < 0.5


NAMES = [
    "../../etc/passwd",
    "C:\\x",
    "a\\0b.png",
    "con.png",
    "x" * 3500,
    "a\r\nX-Evil: 1",
    "\u202egnp.exe",
]


@pytest.mark.parametrize("filename", NAMES, ids=range(len(NAMES)))
async def test_a_file_name_is_nobodys_business(front: Front, filename: str) -> None:
    name = filename.replace("\r\n", "%0D%0A").replace("\\", "\\\\")
    part = _part(f'Content-Disposition: form-data; name="image"; filename="{name}"', png())
    answer = await send(front, "/v1/jobs", PROMPT + part + END, FORM)
    job = await answer.json()
    assert answer.status == 202, job
    assert await front.kept() == [f"t/alice/{job['id']}/in/0.png"]


class TestThePath:
    @pytest.mark.parametrize(
        "path",
        [
            "/v1/jobs/..%2f..%2fmetrics",
            "/v1/jobs/%2e%2e/x",
            "/v1//jobs",
            "/v1/jobs/a%00b",
            "/v1/jobs/" + "x" * 7000,
            "/v1/jobs/job;x=1",
            "/v1/jobs/%F0%9F%98%80",
            "/objects/..%2f..%2fetc/passwd",
            "/objects/t/a/b.png?expires=x&type=y&name=z&signature=w",
            "/v1/models/..%2f",
        ],
    )
    async def test_a_strange_path_is_not_found(self, front: Front, path: str) -> None:
        answer = await front.get(path)
        assert answer.status in {400, 403, 404}
        assert (await answer.json())["error"]["message"]

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "OPTIONS"])
    async def test_another_method_is_refused_with_those_that_work(
        self, front: Front, method: str
    ) -> None:
        answer = await front.request(method, "/v1/jobs")
        assert answer.status == 405
        assert "POST" in answer.headers["Allow"]
        assert (await answer.json())["error"]["code"] == "method_not_allowed"
