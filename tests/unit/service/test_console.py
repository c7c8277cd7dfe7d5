import argparse

import orjson
import pytest

from service.__main__ import _parser
from service.console import Console
from service.registry import Registry
from storage.acts import Acts
from storage.errors import Invalid, Missing
from storage.jobs import Jobs
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from storage.tenant import Scope, presented
from storage.tenants import Tenants


Out = pytest.CaptureFixture[str]


@pytest.fixture
def tenants(commands: Commands) -> Tenants:
    return Tenants(commands)


@pytest.fixture
def console(commands: Commands, tenants: Tenants) -> Console:
    acts = Acts(commands)
    return Console(tenants, acts, Registry(tenants, acts, Jobs(commands, RetentionSettings())))


def asked(line: str) -> argparse.Namespace:
    return _parser().parse_args(line.split())


async def make_key(console: Console, capsys: Out, options: str = "") -> str:
    """Make a key of acme and return its id."""
    await console.carry_out(asked(f"keys create --tenant acme {options}"), 5.0)
    shown = presented(capsys.readouterr().out.strip())
    assert shown is not None
    return shown.id


class TestKeys:
    async def test_a_key_is_printed_and_nothing_else(
        self, console: Console, tenants: Tenants, capsys: Out
    ) -> None:
        line = "keys create --tenant acme --name ci --scope read --expires-in 30d"
        await console.carry_out(asked(f"{line} --requests-per-minute 7 --environment test"), 5.0)
        text = capsys.readouterr().out
        shown = presented(text.strip())
        assert text.startswith("dk_test_")
        assert text.count("\n") == 1
        assert shown is not None
        key = await tenants.key(shown.id)
        assert key is not None
        assert key.admits(shown)
        assert (key.tenant, key.name, key.scopes) == ("acme", "ci", (Scope.READ,))
        assert (key.expires_at, key.requests_per_minute) == (5.0 + 30 * 86_400, 7)

    async def test_a_key_submits_and_reads_unless_told_otherwise(
        self, console: Console, tenants: Tenants, capsys: Out
    ) -> None:
        key = await tenants.key(await make_key(console, capsys))
        assert key is not None
        assert key.scopes == (Scope.SUBMIT, Scope.READ)

    async def test_keys_are_listed_with_their_state(self, console: Console, capsys: Out) -> None:
        revoked = await make_key(console, capsys)
        expired = await make_key(console, capsys, "--expires-in 1s")
        live = await make_key(console, capsys)
        await console.carry_out(asked(f"keys revoke {revoked}"), 6.0)
        await console.carry_out(asked("keys list --tenant acme"), 7.0)
        out = capsys.readouterr().out
        for key, state in ((revoked, "revoked"), (expired, "expired"), (live, "live")):
            assert f"{key}\t{state}\tsubmit,read\tnever used" in out

    async def test_a_key_that_is_not_there_cannot_be_changed(self, console: Console) -> None:
        for line in ("revoke nobody", "show nobody", "rotate nobody", "set nobody --name x"):
            with pytest.raises(Missing):
                await console.carry_out(asked(f"keys {line}"), 8.0)

    async def test_a_key_can_be_changed(
        self, console: Console, tenants: Tenants, capsys: Out
    ) -> None:
        key_id = await make_key(console, capsys, "--requests-per-minute 7")
        line = f"keys set {key_id} --name nightly --scope read --requests-per-minute none"
        await console.carry_out(asked(f"{line} --spend-per-day 1.5"), 6.0)
        key = await tenants.key(key_id)
        assert key is not None
        assert key.spend_per_day == 1.5
        assert (key.name, key.scopes, key.requests_per_minute) == ("nightly", (Scope.READ,), None)

    async def test_a_rotated_key_works_on_for_the_overlap(
        self, console: Console, tenants: Tenants, capsys: Out
    ) -> None:
        old_id = await make_key(console, capsys, "--name ci --scope read")
        await console.carry_out(asked(f"keys rotate {old_id} --overlap 1h"), 10.0)
        shown = presented(capsys.readouterr().out.strip())
        assert shown is not None
        old, new = await tenants.key(old_id), await tenants.key(shown.id)
        assert old is not None
        assert new is not None
        assert (old.is_live(3609.0), old.is_live(3611.0)) == (True, False)
        assert (new.name, new.scopes, new.is_live(1e12)) == ("ci", (Scope.READ,), True)

    @pytest.mark.parametrize("name", ["../x", "-a", "a/b", "{a}", "a" * 64, "a:b"])
    async def test_a_tenants_name_is_plain(self, console: Console, name: str) -> None:
        with pytest.raises(Invalid):
            await console.carry_out(asked(f"keys create --tenant={name}"), 5.0)

    @pytest.mark.parametrize("span", ["1", "1w", "-1h", "h", "1.5h", ""])
    def test_a_span_has_a_unit(self, span: str, capsys: Out) -> None:
        with pytest.raises(SystemExit):
            _parser().parse_args(["keys", "rotate", "x", f"--overlap={span}"])


class TestTenants:
    async def test_every_limit_can_be_set_and_taken_away(
        self, console: Console, tenants: Tenants, capsys: Out
    ) -> None:
        line = "tenants set acme --weight 3 --max-queued 5 --max-running 2"
        await console.carry_out(asked(f"{line} --requests-per-minute 60 --spend-per-day 2.5"), 5.0)
        assert capsys.readouterr().out == (
            "acme\tweight 3\tmax_queued 5\tmax_running 2\trequests_per_minute 60"
            "\tspend_per_day 2.5\n"
        )
        await console.carry_out(asked("tenants set acme --max-queued none"), 6.0)
        tenant = await tenants.get("acme")
        assert tenant is not None
        assert (tenant.max_queued, tenant.max_running, tenant.weight) == (None, 2, 3.0)

    @pytest.mark.parametrize(
        "line", ["--weight 0", "--weight nan", "--max-running 0", "--requests-per-minute -1"]
    )
    async def test_a_limit_has_bounds(self, console: Console, line: str) -> None:
        with pytest.raises(Invalid):
            await console.carry_out(asked(f"tenants set acme {line}"), 5.0)

    async def test_tenants_are_listed_and_shown(self, console: Console, capsys: Out) -> None:
        await console.carry_out(asked("tenants set acme --weight 3"), 5.0)
        capsys.readouterr()
        await console.carry_out(asked("tenants list"), 5.0)
        assert capsys.readouterr().out == "acme\tweight 3\n"
        await console.carry_out(asked("tenants show acme"), 5.0)
        assert orjson.loads(capsys.readouterr().out)["weight"] == 3.0

    async def test_a_tenant_is_removed(
        self, console: Console, tenants: Tenants, capsys: Out
    ) -> None:
        await console.carry_out(asked("tenants set acme"), 5.0)
        await console.carry_out(asked("tenants remove acme"), 6.0)
        assert "acme is let in no more" in capsys.readouterr().out
        await console.carry_out(asked("tenants list"), 7.0)
        assert capsys.readouterr().out == "acme\tweight 1\tbeing removed\n"
        tenant = await tenants.get("acme")
        assert tenant is not None
        assert tenant.removed_at == 6.0


async def test_every_act_is_on_record(console: Console, capsys: Out) -> None:
    key_id = await make_key(console, capsys)
    await console.carry_out(asked("tenants set acme --weight 3"), 6.0)
    await console.carry_out(asked(f"keys revoke {key_id}"), 7.0)
    capsys.readouterr()
    await console.carry_out(asked("audit"), 8.0)
    acts = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(act["act"], act["subject"], act["at"]) for act in acts] == [
        ("tenant.created", "acme", 5.0),
        ("key.created", key_id, 5.0),
        ("tenant.changed", "acme", 6.0),
        ("key.revoked", key_id, 7.0),
    ]
    assert {act["by"] for act in acts} == {"console"}
