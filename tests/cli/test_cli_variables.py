"""`.env` in the working directory: read by every command, beneath the environment, and passed on to nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from run_kit import assert_complains, harness, lines, say, write_toy

from metaharness import variables
from metaharness.errors import ConfigurationError
from metaharness.gateway.providers import open_provider
from metaharness.gateway.providers.remote import key_variable
from metaharness.messages import ModelSpec
from metaharness.store import load_record

SECRET = "sk-proj-Zq81mNv0RtYwXc5B"
MOONSHOT = ("https://api.moonshot.ai/v1", "https://api.moonshot.cn/anthropic")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "MOONSHOT_API_KEY", "EVALUATOR_MODEL", "PROPOSER_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("METAHARNESS_ROOT", raising=False)


def write(folder: Path, **values: object) -> None:
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))


def test_what_it_says_holds_for_options_that_are_not_given_and_reaches_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peeking = harness("good", before="import os", body="if 'OURS' in os.environ: return 'seen'")
    toy = write_toy(tmp_path / "domain", proposals={"1.py": peeking})
    write(tmp_path, EVALUATOR_MODEL=f"scripted:{toy.script}", METAHARNESS_ROOT="kept", OURS=SECRET)
    said = say("run", "-d", toy.folder, "--sandbox", "process", "--name", "one", "--quiet")
    assert said.code == 0, said.err
    assert load_record(tmp_path / "kept" / "one").config.models["target"].name == str(toy.script)
    outputs = {line["output"] for line in lines(tmp_path / "kept/one/iterations/002/eval_trace.jsonl")}
    assert "seen" not in outputs
    assert "OURS" not in os.environ
    monkeypatch.setenv("METAHARNESS_ROOT", "told")
    assert say("run", "-d", toy.folder, "--sandbox", "process", "-n", 0, "--name", "two", "--quiet").code == 0
    assert (tmp_path / "told" / "two").is_dir()


def test_the_environment_wins_and_doctor_says_where_each_is_set_and_never_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, OPENAI_API_KEY=SECRET, MOONSHOT_API_KEY=SECRET, PROPOSER_MODEL="anthropic:secret-name")
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    said = say("doctor", "--root", tmp_path / "runs", "--json")
    assert variables.get("OPENAI_API_KEY") == "another"
    found = {row["name"]: row["found"] for row in said.page["findings"] if row["area"] == "keys"}
    assert found["OPENAI_API_KEY"] == "set in the environment"
    assert found["MOONSHOT_API_KEY"] == found["PROPOSER_MODEL"] == "set in .env"
    assert found["ANTHROPIC_API_KEY"] == found["EVALUATOR_MODEL"] == "not set"
    assert SECRET not in said.out + said.err
    assert "secret-name" not in said.out + said.err


def test_one_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"NAME=\xff\xfe\n")
    assert_complains(say("runs"), 2, f"cannot read {tmp_path / '.env'}", "NAME=VALUE")


def test_moonshot_is_never_given_the_key_of_another_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for own in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(own, "wrong")
        assert [key_variable(own, url) for url in MOONSHOT] == ["MOONSHOT_API_KEY"] * 2
        assert [key_variable(own, url) for url in (None, "https://openrouter.ai/api.moonshot.ai")] == [own] * 2
    with pytest.raises(ConfigurationError, match="no key: MOONSHOT_API_KEY is not set"):
        open_provider(ModelSpec(provider="openai", name="kimi-k2", base_url=MOONSHOT[0]))


def test_a_model_that_is_none_is_told_with_the_variable_that_names_it(tmp_path: Path) -> None:
    write(tmp_path, EVALUATOR_MODEL="nonsense")
    said = say("run", "-d", write_toy(tmp_path / "domain").folder)
    assert_complains(said, 2, "EVALUATOR_MODEL, of .env: 'nonsense'", "anthropic:NAME")
