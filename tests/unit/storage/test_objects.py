"""The door to where bytes are kept."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from storage.local import LocalObjects
from storage.objects import open_objects
from storage.settings import ObjectsSettings, RedisSettings, RetentionSettings


async def test_a_folder_is_opened_from_its_settings(tmp_path: Path) -> None:
    settings = ObjectsSettings(path=tmp_path / "objects")
    objects = open_objects(settings, secret=b"x" * 32, public_url="https://images.example.com/")
    assert isinstance(objects, LocalObjects)
    link = objects.link("a.png", content_type="image/png", filename="a", lifetime=60, now=0.0)
    assert link.url.startswith("https://images.example.com/objects/a.png?")
    await objects.check()
    await objects.close()


def test_a_folder_costs_no_boto3() -> None:
    program = (
        "import sys, storage.objects, storage.local, storage.settings;"
        "sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("group", [ObjectsSettings, RedisSettings, RetentionSettings])
def test_every_setting_says_what_it_is_for(
    group: type[ObjectsSettings | RedisSettings | RetentionSettings],
) -> None:
    for field in group.model_fields.values():
        assert field.description
        assert "\n" not in field.description


def test_settings_cannot_change() -> None:
    with pytest.raises(ValidationError):
        RedisSettings().max_connections = 5  # type: ignore[misc] # that it is refused is the claim


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(ValidationError):
        ObjectsSettings.model_validate({"buckets": "a"})


def test_s3_needs_a_bucket() -> None:
    with pytest.raises(ValidationError, match="bucket"):
        ObjectsSettings(kind="s3")


def test_a_url_with_a_password_is_not_printed() -> None:
    assert "hunter2" not in repr(RedisSettings(url="redis://:hunter2@localhost"))
