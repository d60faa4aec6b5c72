"""What a call costs by the list of prices: which model is meant, and what reading and writing a cache does to it.

No amount is written here: a list changes. What is compared is one cost with another.
"""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_server import Reply, serve

from metaharness.configuration import Budget
from metaharness.errors import ConfigurationError
from metaharness.gateway.budget import Ledger
from metaharness.gateway.prices import PriceTable
from metaharness.gateway.providers import open_provider
from metaharness.messages import Message, ModelRequest, ModelSpec, Usage

HAIKU = ModelSpec(provider="anthropic", name="claude-haiku-4-5")
MINI = ModelSpec(provider="openai", name="gpt-4o-mini")
TIERED = ModelSpec(provider="anthropic", name="claude-sonnet-4-5")
PRO = ModelSpec(provider="openai", name="gpt-5.5-pro")
PROMPT = Usage(input_tokens=100_000, output_tokens=1_000)


@pytest.fixture(autouse=True)
def addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for provider in ("ANTHROPIC", "OPENAI"):
        monkeypatch.delenv(f"{provider}_BASE_URL", raising=False)


def cost(spec: ModelSpec, usage: Usage = PROMPT, told: dict[str, tuple[float, float]] | None = None) -> float:
    dollars = PriceTable(told).cost(spec, usage)
    assert dollars is not None
    return dollars


def named(name: str, provider: str = "anthropic", url: str | None = None) -> ModelSpec:
    return ModelSpec(provider=provider, name=name, base_url=url)


# --- which model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [HAIKU, MINI, TIERED, PRO], ids=lambda spec: spec.id)
def test_a_listed_model_costs_what_the_list_says(spec: ModelSpec) -> None:
    usage = genai_prices.Usage(input_tokens=PROMPT.input_tokens, output_tokens=PROMPT.output_tokens)
    listed = genai_prices.calc_price(usage, spec.name, provider_id=spec.provider)
    assert cost(spec) == pytest.approx(float(listed.total_price))
    assert cost(spec) > 0


def test_a_told_price_comes_before_the_list() -> None:
    assert cost(HAIKU, told={HAIKU.id: (1000.0, 0.0)}) == pytest.approx(100.0)


@pytest.mark.parametrize("name", ["claude-haiku-4-5-20251001", "claude-haiku-4-5@20251001", "Claude-Haiku-4-5"])
def test_a_date_behind_a_name_changes_nothing(name: str) -> None:
    assert cost(named(name)) == cost(HAIKU)


@pytest.mark.parametrize(
    "spec",
    [
        named("claude-haiku-4-5-turbo"),
        named("claude-opus-4-10"),
        named("claude-opus-4-1x"),
        named("claude"),
        named("gpt-4o-mini"),
        named("claude-haiku-4-5", "openai"),
        named("gpt-4o-mini-of-mine", "openai"),
        named("ft:gpt-4o-mini-2024-07-18:me::1", "openai"),
        named("no-such-model", "openai"),
    ],
    ids=lambda spec: spec.id,
)
def test_a_model_whose_name_only_begins_like_another_has_no_price(spec: ModelSpec) -> None:
    assert PriceTable().cost(spec, PROMPT) is None
    assert PriceTable().price(spec) is None


def test_a_model_behind_another_address_is_not_taken_for_that_of_the_provider() -> None:
    assert PriceTable().cost(named("gpt-4o-mini", "openai", "http://127.0.0.1:8000/v1"), PROMPT) is None
    assert PriceTable().cost(named("gpt-4o-mini", "openai", "https://models.example.org/v1"), PROMPT) is None
    assert cost(named("gpt-4o-mini", "openai", "https://api.openai.com/v1")) == cost(MINI)


def test_an_address_that_the_list_knows_has_that_providers_models() -> None:
    url = "https://openrouter.ai/api/v1"
    assert cost(named("openai/gpt-4o-mini", "openai", url)) > 0
    assert PriceTable().cost(named("gpt-4o-mini", "openai", url), PROMPT) is None


def test_an_address_in_the_environment_counts_like_one_that_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
    assert PriceTable().cost(MINI, PROMPT) is None
    assert PriceTable().cost(HAIKU, PROMPT) is not None


def test_a_listed_model_that_is_not_charged_by_the_token_has_no_price() -> None:
    speech = named("tts-1", "openai")
    assert genai_prices.calc_price(genai_prices.Usage(), "tts-1", provider_id="openai").model.id == "tts-1"
    assert PriceTable().cost(speech, PROMPT) is None
    assert PriceTable().price(speech) is None


# --- the cache of a provider --------------------------------------------------------------------------------------


def test_what_is_read_from_a_providers_cache_costs_less_and_what_is_written_to_it_more() -> None:
    read = cost(HAIKU, PROMPT.model_copy(update={"cache_read_tokens": 90_000}))
    written = cost(HAIKU, PROMPT.model_copy(update={"cache_write_tokens": 90_000}))
    for_an_hour = cost(HAIKU, PROMPT.model_copy(update={"cache_write_tokens": 90_000, "cache_write_1h_tokens": 90_000}))
    assert read < cost(HAIKU) < written < for_an_hour


async def test_both_providers_tell_what_was_read_and_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    told = {
        "anthropic": {
            "input_tokens": 10,
            "cache_read_input_tokens": 70,
            "cache_creation_input_tokens": 20,
            "cache_creation": {"ephemeral_5m_input_tokens": 15, "ephemeral_1h_input_tokens": 5},
        },
        "openai": {"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 70}},
    }
    found = {}
    for provider, usage in told.items():
        monkeypatch.setenv(f"{provider.upper()}_API_KEY", "a key")
        with serve([Reply(text="well", usage=usage)]) as server:
            url = server.url if provider == "anthropic" else f"{server.url}/v1"
            opened = open_provider(named("some-model", provider, url))
            request = ModelRequest(messages=[Message(role="user", content="hello")])
            found[provider] = (await opened.complete(request, deadline=30)).usage
            await opened.aclose()
    output = {"output_tokens": found["anthropic"].output_tokens}
    assert found["anthropic"] == Usage(
        input_tokens=100, cache_read_tokens=70, cache_write_tokens=20, cache_write_1h_tokens=5, **output
    )
    assert found["openai"] == Usage(input_tokens=100, cache_read_tokens=70, **output)


def test_counts_that_contradict_each_other_have_an_unknown_cost() -> None:
    assert PriceTable().cost(HAIKU, Usage(input_tokens=10, cache_read_tokens=20)) is None


# --- the bound ----------------------------------------------------------------------------------------------------


@given(
    spec=st.sampled_from([HAIKU, MINI, TIERED, PRO]),
    tokens=st.integers(0, 600_000),
    output=st.integers(0, 100_000),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_no_call_costs_more_than_its_estimate(
    spec: ModelSpec, tokens: int, output: int, shares: tuple[float, float, float]
) -> None:
    read = int(tokens * shares[0])
    written = int((tokens - read) * shares[1])
    usage = Usage(
        input_tokens=tokens,
        output_tokens=output,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=int(written * shares[2]),
    )
    price = PriceTable().price(spec, tokens)
    assert price is not None
    assert cost(spec, usage) <= (tokens * price[0] + output * price[1]) / 1e6 + 1e-9


def test_a_longer_prompt_may_cost_more_per_token() -> None:
    short, long = PriceTable().price(PRO, 1_000), PriceTable().price(PRO, 900_000)
    assert short is not None
    assert long is not None
    assert short < long


def test_a_budget_in_dollars_takes_a_listed_model_and_refuses_another() -> None:
    ledger = Ledger(Budget(usd=1), PriceTable())
    ledger.check_prices([HAIKU, MINI])
    with pytest.raises(ConfigurationError, match="no-such-model is unknown") as caught:
        ledger.check_prices([named("no-such-model")])
    assert "--price anthropic:no-such-model=INPUT,OUTPUT" in str(caught.value.hint)


# --- without the list ---------------------------------------------------------------------------------------------


def run_python(source: str) -> str:
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout.strip()


def test_without_the_list_every_cost_is_unknown_but_those_told() -> None:
    said = run_python(
        "import sys; sys.modules['genai_prices'] = None\n"
        "from metaharness.gateway.prices import PriceTable\n"
        "from metaharness.messages import ModelSpec, Usage\n"
        "haiku = ModelSpec(provider='anthropic', name='claude-haiku-4-5')\n"
        "usage = Usage(input_tokens=1_000_000)\n"
        "print(PriceTable().cost(haiku, usage), PriceTable({haiku.id: (2.0, 1.0)}).cost(haiku, usage))\n"
    )
    assert said == "None 2.0"


def test_the_list_is_not_read_for_models_that_cost_nothing_or_whose_price_was_told() -> None:
    said = run_python(
        "import sys\n"
        "from metaharness.gateway.prices import PriceTable\n"
        "from metaharness.messages import ModelSpec, Usage\n"
        "prices = PriceTable({'openai:mine': (1.0, 1.0)})\n"
        "prices.cost(ModelSpec(provider='embedded', name='icl'), Usage(input_tokens=1))\n"
        "prices.cost(ModelSpec(provider='openai', name='mine'), Usage(input_tokens=1))\n"
        "print('genai_prices' in sys.modules)\n"
    )
    assert said == "False"


def test_where_the_list_is_not_installed_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = named("no-such-model")
    tell = "tell it: --price anthropic:no-such-model=INPUT,OUTPUT in dollars per million tokens"
    assert PriceTable().advice(unknown) == tell

    def nothing_installed(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", nothing_installed)
    advice = PriceTable().advice(unknown)
    assert advice.startswith(f"{tell}; or install the list of prices: ")
    assert "prices" in advice.rpartition(": ")[2]


def test_a_list_that_lacks_a_part_of_itself_is_no_missing_list() -> None:
    said = run_python(
        "import sys; sys.modules['genai_prices.types'] = None\n"
        "from metaharness.gateway.prices import PriceTable\n"
        "from metaharness.messages import ModelSpec, Usage\n"
        "try:\n"
        "    PriceTable().cost(ModelSpec(provider='openai', name='gpt-4o-mini'), Usage(input_tokens=1))\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error.name)\n"
    )
    assert said == "genai_prices.types"
