import argparse

import pytest
from fakeredis import FakeAsyncRedis

from service.__main__ import _parser
from service.console import carry_out
from storage.errors import Invalid, Missing
from storage.redis_client import Commands
from storage.tenant import Scope, presented
from storage.tenants import Tenants


@pytest.fixture
def tenants() -> Tenants:
    return Tenants(Commands(FakeAsyncRedis()))


def asked(line: str) -> argparse.Namespace:
    return _parser().parse_args(line.split())


async def test_a_key_is_printed_and_nothing_else(
    tenants: Tenants, capsys: pytest.CaptureFixture[str]
) -> None:
    await carry_out(tenants, asked("keys create --tenant acme --name ci --scope read"), 5.0)
    text = capsys.readouterr().out
    shown = presented(text.strip())
    assert text.count("\n") == 1
    assert shown is not None
    key = await tenants.key(shown.id)
    assert key is not None
    assert key.admits(shown)
    assert (key.tenant, key.name, key.scopes) == ("acme", "ci", (Scope.READ,))


async def test_keys_are_listed_and_revoked(
    tenants: Tenants, capsys: pytest.CaptureFixture[str]
) -> None:
    await carry_out(tenants, asked("keys create --tenant acme"), 5.0)
    shown = presented(capsys.readouterr().out.strip())
    assert shown is not None
    await carry_out(tenants, asked(f"keys revoke {shown.id}"), 6.0)
    await carry_out(tenants, asked("keys list --tenant acme"), 7.0)
    out = capsys.readouterr().out
    assert f"{shown.id}\trevoked" in out
    with pytest.raises(Missing):
        await carry_out(tenants, asked("keys revoke nobody"), 8.0)


@pytest.mark.parametrize("name", ["../x", "-a", "a/b", "{a}", "a" * 64, "a:b"])
async def test_a_tenants_name_is_plain(tenants: Tenants, name: str) -> None:
    with pytest.raises(Invalid):
        await carry_out(tenants, asked(f"keys create --tenant={name}"), 5.0)


async def test_a_tenants_weight_can_be_set(
    tenants: Tenants, capsys: pytest.CaptureFixture[str]
) -> None:
    await carry_out(tenants, asked("tenants set acme --weight 3"), 5.0)
    await carry_out(tenants, asked("tenants list"), 5.0)
    assert "acme\tweight 3" in capsys.readouterr().out
    with pytest.raises(Invalid):
        await carry_out(tenants, asked("tenants set acme --weight 0"), 5.0)
