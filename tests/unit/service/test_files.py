import base64
from typing import Any

import pytest
from aiohttp import ClientResponse, FormData
from openai.types import FileObject

from tests.unit.service.conftest import Front
from tests.unit.service.pictures import png


FILES = "/v1/files"


def form(data: bytes = b"", name: str = "a.png", fields: dict[str, str] | None = None) -> FormData:
    made = FormData({"purpose": "vision", **(fields or {})})
    made.add_field("file", data or png(), filename=name, content_type="image/png")
    return made


async def announced(front: Front, data: bytes, **changes: Any) -> dict[str, Any]:
    ask = {
        "filename": "a.png",
        "purpose": "user_data",
        "bytes": len(data),
        "content_type": "image/png",
        **changes,
    }
    answer = await front.post(FILES, ask)
    document: dict[str, Any] = await answer.json()
    assert answer.status == 200, document
    return document


async def put(front: Front, file: dict[str, Any], data: bytes, **headers: str) -> ClientResponse:
    upload = file["upload"]
    target = upload["url"].removeprefix("http://front.test")
    return await front.client.put(target, data=data, headers={**upload["headers"], **headers})


class TestAForm:
    async def test_a_file_is_kept_and_shown(self, front: Front) -> None:
        answer = await front.post(FILES, data=form())
        body = await answer.json()
        file = FileObject.model_validate(body)
        assert (file.object, file.status, file.purpose) == ("file", "processed", "vision")
        assert (file.bytes, file.filename) == (len(png()), "a.png")
        shown = await (await front.get(f"{FILES}/{file.id}")).json()
        assert shown == body
        listed = await (await front.get(FILES)).json()
        assert listed["data"] == [body]
        sent = await front.get(f"{FILES}/{file.id}/content")
        assert await sent.read() == png()

    async def test_it_is_taken_wherever_a_file_id_is(self, working: Front) -> None:
        file = await (await working.post(FILES, data=form())).json()
        mask = await (await working.post(FILES, data=form(png(alpha=True)))).json()
        edit = {
            "prompt": "x",
            "images": [{"file_id": file["id"]}],
            "mask": {"file_id": mask["id"]},
        }
        assert (await working.post("/v1/images/edits", edit)).status == 200
        native = {**edit, "images": [{"file_id": file["id"]}] * 2}
        assert (await working.post("/v1/jobs", native)).status == 202
        part = {"type": "input_image", "file_id": file["id"]}
        content = [{"type": "input_text", "text": "x"}, part]
        ask = {"input": [{"role": "user", "content": content}]}
        assert (await working.post("/v1/responses", ask)).status == 200
        request = working.worker.made[0].request
        assert (request.images[0].width, request.images[0].bytes) == (64, len(png()))

    async def test_it_ends_when_it_should(self, front: Front) -> None:
        late = form(
            fields={"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
        )
        body = await (await front.post(FILES, data=late)).json()
        assert body["expires_at"] - body["created_at"] == 3600
        usual = await (await front.post(FILES, data=form())).json()
        assert usual["expires_at"] - usual["created_at"] == 7 * 86_400

    async def test_a_deleted_file_is_gone_with_its_bytes(self, front: Front) -> None:
        file = await (await front.post(FILES, data=form())).json()
        answer = await front.request("DELETE", f"{FILES}/{file['id']}")
        assert (await answer.json())["deleted"] is True
        assert await front.kept() == []
        assert (await front.get(f"{FILES}/{file['id']}")).status == 404
        assert (await (await front.get(FILES)).json())["data"] == []

    async def test_nobody_sees_the_files_of_another(self, front: Front) -> None:
        file = await (await front.post(FILES, data=form())).json()
        bob = {"Authorization": f"Bearer {await front.new_key('bob')}"}
        assert (await (await front.get(FILES, headers=bob)).json())["data"] == []
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            answer = await front.request(method, f"{FILES}/{file['id']}{path}", headers=bob)
            assert answer.status == 404
        ask = {"prompt": "x", "images": [{"file_id": file["id"]}]}
        refused = await front.post("/v1/jobs", ask, headers=bob)
        unknown = {"prompt": "x", "images": [{"file_id": "file-nobody"}]}
        nobodys = await front.post("/v1/jobs", unknown, headers=bob)
        assert refused.status == nobodys.status == 400
        assert await refused.read() == await nobodys.read()

    @pytest.mark.parametrize(
        ("made", "param"),
        [
            (form(b"hello"), "file"),
            (form(fields={"purpose": "assistants"}), "purpose"),
            (FormData({"purpose": "vision"}, default_to_multipart=True), "file"),
            (form(fields={"colour": "blue"}), "colour"),
            (form(fields={"expires_after[seconds]": "5"}), "expires_after.seconds"),
        ],
        ids=["text", "purpose", "none", "unknown", "short"],
    )
    async def test_what_is_not_right_is_refused(
        self, front: Front, made: FormData, param: str
    ) -> None:
        answer = await front.post(FILES, data=made)
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, param)
        assert await front.kept() == []

    async def test_a_name_names_nothing(self, front: Front) -> None:
        body = await (await front.post(FILES, data=form(name="../../etc/passwd"))).json()
        assert "/" not in body["filename"]
        assert await front.kept() == [f"t/alice/{body['id']}/0.png"]


class TestAnUploadLink:
    async def test_the_bytes_are_put_where_the_link_leads(self, working: Front) -> None:
        file = await announced(working, png())
        assert file["status"] == "uploaded"
        early = {"prompt": "x", "images": [{"file_id": file["id"]}]}
        assert (await working.post("/v1/jobs", early)).status == 400
        assert (await put(working, file, png())).status == 200
        assert (await working.post("/v1/images/edits", early)).status == 200
        shown = await (await working.get(f"{FILES}/{file['id']}")).json()
        assert (shown["status"], shown["width"]) == ("processed", 64)

    async def test_it_takes_only_what_was_announced(self, front: Front) -> None:
        file = await announced(front, png())
        assert (await put(front, file, png() + b"x")).status == 400
        assert (await put(front, file, png(), **{"Content-Type": "image/jpeg"})).status == 400
        for old, new in (("size=", "size=1"), ("alice", "bob"), ("signature=", "signature=A")):
            forged = {**file, "upload": {**file["upload"]}}
            forged["upload"]["url"] = file["upload"]["url"].replace(old, new)
            assert (await put(front, forged, png())).status in {400, 403}
        assert await front.kept() == []

    async def test_a_link_for_reading_does_not_write(self, front: Front) -> None:
        file = await announced(front, png())
        await put(front, file, png())
        link = front.context.objects.link(
            f"t/alice/{file['id']}/0.png",
            content_type="image/png",
            filename="a",
            lifetime=60,
            now=front.context.clock(),
        )
        path = link.url.removeprefix("http://front.test").replace("/objects/", "/uploads/")
        assert (await front.client.put(path, data=b"x")).status == 403
        read = (
            file["upload"]["url"]
            .removeprefix("http://front.test")
            .replace("/uploads/", "/objects/")
        )
        assert (await front.client.get(read)).status == 403

    async def test_what_is_no_image_is_found_out_when_it_is_used(self, front: Front) -> None:
        text = b"this is no image"
        file = await announced(front, text)
        await put(front, file, text)
        ask = {"prompt": "x", "images": [{"file_id": file["id"]}]}
        answer = await front.post("/v1/jobs", ask)
        assert answer.status == 400
        assert (await answer.json())["error"]["code"] == "invalid_image"

    async def test_too_much_is_not_even_announced(self, front: Front) -> None:
        ask = {
            "filename": "a",
            "purpose": "vision",
            "bytes": 900_000_000,
            "content_type": "image/png",
        }
        answer = await front.post(FILES, ask)
        assert (answer.status, (await answer.json())["error"]["param"]) == (413, "bytes")


async def test_base64_of_a_file_id_is_no_file(front: Front) -> None:
    text = base64.b64encode(b"file-1").decode()
    answer = await front.post("/v1/jobs", {"prompt": "x", "images": [{"file_id": text}]})
    assert answer.status == 400
