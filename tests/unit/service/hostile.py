"""Hostile requests as tables, in the numbers of the threat list.

A framing and grammar of JSON (1-21), B text (22-33), C numbers and enums (34-39), D base64 and
images (40-48), E forms (49-61). Each row says what is sent; which doors take it is said in
`doors.py`, and what must come of it in `test_hostile.py`.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.unit.service.pictures import png


JSON = "application/json"
FORM = "multipart/form-data; boundary=B"
TEXTS = frozenset({"prompt", "model", "size", "user", "quality"})
IMAGE = base64.b64encode(png()).decode()


class Body(NamedTuple):
    """A whole body. `param` is what the error names, where it is the same on every door."""

    name: str
    data: bytes
    content_type: str | None = JSON
    param: str | None = None
    status: int = 400


class Field(NamedTuple):
    """One field with a value that no door takes; the error names it, with `below` after it."""

    name: str
    field: str
    value: Any
    below: str = ""
    status: int = 400

    @property
    def differs_as_text(self) -> bool:
        """Say whether it is still not right when it is written as a text, as in a form."""
        is_text = isinstance(self.value, str)
        return (self.field, self.value) != ("n", "1") and (is_text or self.field not in TEXTS)

    def body(self, data: bytes, content_type: str = JSON) -> Body:
        """Return the body that has this field in it."""
        is_long = content_type == FORM and len(str(self.value)) > 262_144
        name = f"{self.name}, {self.field}"
        return Body(name, data, content_type, status=413 if is_long else self.status)


# -- A: the grammar ------------------------------------------------------------------------------


def _nested(opening: str, closing: str, depth: int) -> bytes:
    return (opening * depth + "1" + closing * depth).encode()


GRAMMAR = (
    Body("H1 empty", b""),
    Body("H2 invalid UTF-8", b'{"prompt": "\xff\xfe"}'),
    Body("H2 overlong UTF-8", b'{"prompt": "\xc0\xaf"}'),
    Body("H3 byte order mark", b'\xef\xbb\xbf{"prompt": "x"}'),
    Body("H4 UTF-16", '{"prompt": "x"}'.encode("utf-16")),
    Body("H4 UTF-32", '{"prompt": "x"}'.encode("utf-32")),
    Body("H6 truncated", b'{"prompt": "x'),
    Body("H7 trailing garbage", b'{"prompt": "x"} x'),
    Body("H7 two documents", b'{"prompt": "x"}{"prompt": "y"}'),
    *(
        Body(f"H8 {number}", f'{{"prompt": "x", "start_within": {number}}}'.encode())
        for number in ("NaN", "Infinity", "-Infinity", "1e999")
    ),
    Body("H9 5,000 digits", b'{"prompt": "x", "n": ' + b"9" * 5000 + b"}"),
    Body("H10 4,299 digits", b'{"prompt": "x", "n": ' + b"9" * 4299 + b"}"),
    Body("H11 100,000 brackets", b"[" * 100_000),
    Body("H11 100,000 brackets, closed", b"[" * 100_000 + b"]" * 100_000),
    Body("H12 5,000 objects", _nested('{"a":', "}", 5000)),
    Body("H13 900 levels", b'{"prompt":"x","metadata":' + _nested('{"a":', "}", 900) + b"}"),
    Body("H13 20 levels", b'{"prompt":"x","options":' + _nested('{"a":', "}", 20) + b"}"),
    Body("H14 n twice", b'{"prompt": "x", "n": 1, "n": 2}', param="n"),
    Body("H14 prompt twice", b'{"prompt": "x", "prompt" : "y"}', param="prompt"),
    Body("H14 twice below", b'{"prompt": "x", "metadata": {"a": "1", "a": "2"}}', param="a"),
    *(Body(f"H16 {value}", value.encode()) for value in ("null", "[]", '"x"', "1", "true")),
    Body("H18 1,000,000 keys", b"{" + b",".join(b'"%d":1' % i for i in range(1_000_000)) + b"}"),
    Body("H19 10,000 fields", json.dumps({f"k{i}": 1 for i in range(10_001)}).encode()),
    *(
        Body(f"H21 {text}", text.encode())
        for text in (
            *('{"a":"x",}', '{"a":"x" "b":1}', "{'a':1}", "{a:1}", '{"a":/*x*/1}', '{"a":01}'),
            *('{"a":+1}', '{"a":.5}', '{"a":1.}', '{"a":0x1}', '{"a":"\t"}', '{"a":"\\x"}'),
            *('{"a":tru}', "{,}", '{"a":}', '{"a"}', "}", "[1,", '{"a":"\\u12"}', "\0", "{}\0"),
        )
    ),
    Body("H24 NUL outside of a text", b'{"prompt":\x00"x"}'),
    Body("H25 half a surrogate pair", b'{"prompt": "\\ud800"}'),
    Body("H25 surrogates in the wrong order", b'{"prompt": "\\udc00\\ud800"}'),
)

TYPES = tuple(
    Body(name, b'{"prompt": "x"}', content_type, param="Content-Type", status=415)
    for name, content_type in (
        *(
            (f"H5 {charset}", f"{JSON}; charset={charset}")
            for charset in ("bogus", "rot13", "zlib_codec", "utf-7", "unicode_escape", "latin-1")
        ),
        ("H20 no type", None),
        ("H20 text", "text/plain"),
        ("H20 a form", "application/x-www-form-urlencoded"),
        ("H20 a prefix", "application/jsonx"),
    )
)


# -- A to C: fields ------------------------------------------------------------------------------

NO_COUNTS: tuple[Any, ...] = (1.5, 1.0, "1", True, [1], {})
FIELDS = (
    Field("H17 number", "prompt", 1),
    Field("H17 object", "prompt", {"a": 1}),
    Field("H22 one more than the limit", "prompt", "x" * 32_001),
    Field("H22 one more, of four bytes each", "prompt", "\U0001f600" * 32_001),
    Field("H22 a megabyte", "prompt", "x" * 1_000_000),
    Field("H23 empty", "prompt", ""),
    Field("H23 blanks", "prompt", " \n\t"),
    Field("H23 invisible", "prompt", "\u200b\ufeff"),
    Field("H24 NUL", "prompt", "a\x00b"),
    Field("H22 long", "negative_prompt", "x" * 32_001),
    Field("H17 number", "strict", 1),
    Field("H17 word", "strict", "yes"),
    Field("H17 number", "watermark", 1),
    Field("H17 word", "stream", "yes"),
    Field("H17 word", "provenance", "no"),
    Field("H17 list", "metadata", []),
    Field("H17 value", "metadata", {"a": 1}, ".a"),
    Field("H22 long value", "metadata", {"a": "x" * 513}, ".a"),
    Field("H22 many names", "metadata", {f"k{i}": "" for i in range(17)}),
    Field("H22 long", "user", "x" * 257),
    Field("H17 list", "options", []),
    Field("H17 object", "renditions", {}),
    Field("H36 unknown", "renditions", ["huge"], ".0"),
    *(Field(f"H34 {n}", "n", n) for n in (0, -1, 11, 10**9, 2**31, 2**63, 2**64, 10**299)),
    *(Field(f"H34 {odd!r}", "n", odd) for odd in NO_COUNTS),
    Field("H17 number", "size", 1024),
    *(
        Field(f"H35 {size[:20]!r}", "size", size)
        for size in (
            *("0x0", "-1x5", "99999999x1", "1024X1024", "1024×1024", "1024x1024x3"),
            *(" 1024x1024", "1024x1024 ", "\uff11\uff10\uff12\uff14x1024", "x" * 10_000, ""),
            *("1024x", "x1024", "16385x1", "1024x1024\n", "\u0661x\u0661", "9" * 100_000 + "x1"),
        )
    ),
    Field("H36 unknown", "model", "nope", status=404),
    Field("H36 path", "model", "../../etc/passwd", status=404),
    Field("H36 long", "model", "m" * 10_000),
    Field("H17 number", "model", 1),
    Field("H28 CR LF", "model", "a\r\nb"),
    Field("H28 escape", "model", "\x1b[31mred"),
    Field("H29 forged line", "quality", '\n{"level":"error"}'),
    Field("H36 long", "quality", "q" * 10_000),
    Field("H36 unknown", "output_format", "bmp"),
    Field("H36 unknown", "background", "blue"),
    Field("H36 unknown", "style", "loud"),
    Field("H36 unknown", "moderation", "none"),
    Field("H36 unknown", "input_fidelity", "medium"),
    Field("H36 unknown", "response_format", "jpeg"),
    Field("H36 zero", "aspect_ratio", "0:1"),
    Field("H33 long", "aspect_ratio", "1:" * 50_000),
    Field("H36 long", "resolution", "k" * 65),
    Field("H37 below", "seed", -1),
    Field("H37 above", "seed", 2**32),
    Field("H37 fraction", "seed", 0.5),
    Field("H38 above", "output_compression", 101),
    Field("H38 below", "output_compression", -1),
    Field("H38 above", "partial_images", 4),
    Field("H39 nothing", "max_cost", 0),
    Field("H39 too little", "max_cost", 0.000001),
    Field("H39 negative", "max_cost", -1),
    Field("H34 nothing", "start_within", 0),
    Field("H34 too long", "start_within", 604_801),
    Field("H34 negative", "end_within", -5),
    Field("H34 above", "priority", 2),
    Field("H36 unknown", "on_unknown", "maybe"),
    Field("H36 unknown", "webhook_events", ["job.done"]),
    Field("H17 text", "webhook_events", "job.succeeded"),
    Field("loopback", "webhook_url", "https://127.0.0.1/"),
    Field("without TLS", "webhook_url", "http://example.com/"),
    Field("no URL", "webhook_url", "x"),
    Field("H33 long", "webhook_url", "https://e.com/" + "x" * 100_000),
)

UNKNOWN = (
    *("__proto__", "constructor", "$ref", "promt", "tenant", "status", "cost", "created_at"),
    *("temperature", "", "a\r\nb", "\x1b[31m", "k" * 10_000),
)

ODD = (
    "x" * 32_000,
    "\U0001f600" * 32_000,
    "e" + "\u0301" * 10_000,
    "\u202e\u2066 right to left \u200f",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467" * 100,
    "x" * 255 + "\U0001f600",
    "line one\r\nline two \x1b[31mred\x07\x08",
    '\n{"level":"error"}',
    "{{7*7}} ${jndi:ldap://x} %s%n #{1} <%= 1 %> $(id) `id`",
    "'; DROP TABLE jobs;-- \" OR 1=1 /* <script>alert(1)</script> <!--#exec cmd=id -->",
    "dk_live_aaaaaaaaaaaa_" + "A" * 43 + "_00000000",
    '"quotes": {"and": "colons"}, \\u0000 \\',
    "../../../etc/passwd C:\\con COM1 ~/.ssh | rm -rf /",
    *("null", "undefined", "true", "NaN", "-0", "1e999", "0x0", "[]", "{}", "None", "__proto__"),
    "\ufdfd\ufffd\uffff\U0010ffff",
    "\u00a0\u2003a\u3000",
    "\u0130I\u0131i \u00df \u1e9e \ufb03",
    "\ud55c\uae00 \u0639\u0631\u0628\u064a \u05e2\u05d1\u05e8\u05d9 \u0e44\u0e17\u0e22",
    "T\u0335\u0321o\u0334\u0322 \u0489" * 20,
)

# -- D: images -----------------------------------------------------------------------------------

NO_IMAGES = (
    ("H47 half an image", png()[: len(png()) // 2]),
    ("H47 signature only", png()[:8]),
    ("H48 base64", IMAGE.encode()),
    ("a text", b"hello world"),
    ("one byte", b"\0"),
    ("markup", b"<!doctype html><script>alert(1)</script>"),
    ("H44 svg", b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'),
    ("a GIF", b"GIF89a\x01\0\x01\0\0\0\0;"),
    ("H62 50000x50000", png(1, 1)[:16] + b"\0\0\xc3\x50" * 2),
)

PICTURES = (
    ("H40 no padding", IMAGE.rstrip("=") if IMAGE.endswith("=") else IMAGE[:-1]),
    ("H40 extra padding", IMAGE + "===="),
    ("H40 line breaks", IMAGE[:76] + "\n" + IMAGE[76:]),
    ("H40 spaces", IMAGE[:76] + " " + IMAGE[76:]),
    ("H40 URL-safe", IMAGE[:8] + "-_-_" + IMAGE[12:]),
    ("H40 only padding", "===="),
    ("H40 exclamation", "!!!!"),
    ("H41 two strings", "YQ==" + IMAGE),
    ("H42 look-alikes", "\u0430" + IMAGE[1:]),
    ("H43 base64 of a data URL", base64.b64encode(b"data:image/png;base64,AA").decode()),
    ("H43 two data URLs", "data:image/png;base64,data:image/png;base64," + IMAGE),
    ("H44 html", "data:text/html;base64," + IMAGE),
    ("H44 no type", "data:;base64," + IMAGE),
    ("H44 parameters", "data:image/png" + ";a=b" * 10_000 + ";base64," + IMAGE),
    ("H44 no comma", "data:image/png;base64" + IMAGE),
    ("H44 percent", "data:image/png,%89PNG%0D%0A"),
    ("H83 file", "file:///etc/passwd"),
    ("H84 loopback", "http://127.0.0.1/a.png"),
    ("H85 metadata service", "http://169.254.169.254/a"),
    ("H87 user in URL", "https://a@example.com/a.png"),
    *((name, base64.b64encode(data).decode()) for name, data in NO_IMAGES),
    *(
        (f"{name}, as a data URL", "data:image/png;base64," + base64.b64encode(data).decode())
        for name, data in NO_IMAGES
    ),
)

# -- E: forms ------------------------------------------------------------------------------------

END = b"--B--\r\n"


def part(head: str, data: bytes = b"x") -> bytes:
    """Return one part of a form."""
    return b"--B\r\n" + head.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + data + b"\r\n"


def text(name: str, value: str = "x") -> bytes:
    """Return a part that is a text."""
    return part(f'Content-Disposition: form-data; name="{name}"', value.encode())


def file(name: str, data: bytes | None = None, more: str = "") -> bytes:
    """Return a part that is a file, of an image unless it is said."""
    head = f'Content-Disposition: form-data; name="{name}"; filename="a.png"{more}'
    return part(head, png() if data is None else data)


def forms(words: bytes, image: str, said: str) -> Iterator[Body]:
    """Yield hostile forms for a door that takes `words` and a file `image`; `said` is a text."""
    picture = file(image)
    good = words + picture
    yield Body("H49 no boundary", good + END, "multipart/form-data")
    yield Body("H49 long boundary", b"", f"multipart/form-data; boundary={'B' * 200}")
    yield Body("H49 empty boundary", good + END, 'multipart/form-data; boundary=""')
    yield Body("H49 another boundary", good + END, 'multipart/form-data; boundary="B B"')
    yield Body("H50 no end", good, FORM)
    yield Body("H50 cut end", good + b"--B-", FORM)
    yield Body("H51 101 parts", good + text("a[]") * 100 + END, FORM)
    yield Body("H51 100,000 parts", good + text("a[]") * 100_000 + END, FORM)
    nested = "\r\nContent-Type: multipart/mixed; boundary=C"
    yield Body("H52 nested", words + file(image, b"--C--", nested) + END, FORM, image)
    charset = part('Content-Disposition: form-data; name="_charset_"', b"\xff")
    yield Body("H53 _charset_", good + charset + END, FORM, "_charset_")
    gzip = "\r\nContent-Encoding: gzip"
    yield Body("H54 gzip", words + file(image, b"\x1f\x8b", gzip) + END, FORM, image)
    for how in ("base64", "quoted-printable", "x"):
        encoded = f"\r\nContent-Transfer-Encoding: {how}"
        yield Body(f"H55 {how}", words + file(image, b"!!!!", encoded) + END, FORM, image)
    yield Body("H56 20 kB header", words + file(image, more=f'; x="{"y" * 20_000}"') + END, FORM)
    yield Body("H56 500 headers", words + file(image, more="\r\nX: y" * 500) + END, FORM)
    yield Body("H57 10 kB of name", words + file("i" * 10_000) + END, FORM)
    yield Body("H58 empty name", good + text("") + END, FORM)
    yield Body("H58 no name", good + part("Content-Disposition: form-data") + END, FORM)
    yield Body("H58 no disposition", good + part("X: y") + END, FORM)
    yield Body("H58 50 files", words + picture * 50 + END, FORM, image)
    yield Body("H58 17 files", words + picture * 17 + END, FORM, image)
    yield Body("H58 another file", good + file("image.x") + END, FORM, "image.x")
    yield Body("H58 text twice", picture + text(said) * 2 + END, FORM, said)
    yield Body("H58 text and list", good + text("a") + text("a[]") + END, FORM, "a")
    yield Body("H59 empty file", words + file(image, b"") + END, FORM, image)
    yield Body("H59 no file", words + END, FORM, image)
    yield Body("H59 file as text", good + file(said) + END, FORM, said)
    yield Body("H59 text as file", words + text(image) + END, FORM, image)
    broken = part(f'Content-Disposition: form-data; name="{said}"', b"\xff\xfe")
    yield Body("H60 invalid UTF-8", picture + broken + END, FORM, said)
    yield Body("H61 10 MB of preamble", b"x" * 10_000_000 + b"\r\n" + good + END, FORM)
    yield Body("H61 10 MB of epilogue", good + END + b"x" * 10_000_000, FORM)
    yield Body("empty", b"", FORM)
    yield Body("bare line feeds", (good + END).replace(b"\r\n", b"\n"), FORM)
    yield Body("long text", picture + text(said, "x" * 300_000) + END, FORM, said, 413)
    for name, data in NO_IMAGES:
        yield Body(f"D {name}", words + file(image, data) + END, FORM, image)
