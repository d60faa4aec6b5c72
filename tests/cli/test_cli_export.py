"""`export`: a candidate taken out of its run is used by a program of its own, and answers as it did in the run."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from run_kit import Said, Toy, assert_complains, executed, harness, lines, rules, say, write_toy
from wheel_kit import needs_uv, wheel
from wire_server import Received, Reply, serve

from metaharness import __version__, connect
from metaharness.domain import files_hash
from metaharness.exported import ExportedHarness
from metaharness.gateway.providers.remote import sdk_bounds
from metaharness.harness import Model
from metaharness.sandbox.environments import VARIABLE

FILES = {"README.md", "examples.jsonl", "numbers.json", "requirements.txt", "use.py"}
TEXTS = {
    "praise": "a bright and moving film|the cast is wonderful|bright songs, a moving end|wonderful music",
    "complaint": "dull from start to end|a dreadful script|far too long and dull|dreadful music",
}
LEARNS = """
class Harness:
    def learn(self, examples, model):
        self.shown = [(one.text, one.label) for one in examples]

    def predict(self, text, model):
        return model.complete(f"[good] {text}").text + f" after {len(self.shown)}"
"""
ASYNC = """
class Harness:
    async def learn(self, examples, model):
        self.first = (await model.acomplete("[good] item 00")).text

    async def predict(self, text, model):
        return [self.first, (await model.acomplete(f"[good] {text}")).text]
"""
FOLDER = {
    "harness.py": "from pathlib import Path\n\nfrom driver import ask\n\n"
    "STYLE = (Path(__file__).parent / 'texts' / 'style.txt').read_text()\n\n\n"
    "class Harness:\n    def predict(self, text, model):\n        return ask(model, STYLE, text)\n",
    "driver.py": "def ask(model, style, text):\n    return model.complete(style + text).text\n",
    "README.md": "of the candidate",
    "texts/style.txt": "[good] ",
    "harness-requirements.txt": "numpy>=2\n\n# ours\n",
}
DRIVER = """
def check(module):
    return None if hasattr(module, "make") else "no make()"

def build(module):
    return module.make()

def learn(harness, examples, model):
    harness["seen"] = [one["expected"] for one in examples]

async def ask(harness, case_input, model):
    return {"text": (await model.acomplete("[good] " + case_input["item"])).text, "seen": harness["seen"]}
"""
LONGEST_PATH = 4095
"""Characters that Linux takes."""
DRIVEN = "def make():\n    return {}\n"


def ask(export: Path, *arguments: str, cwd: Path | None = None, **environment: str) -> Said:
    """`python use.py ...` as a process with an environment of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    done = subprocess.run(
        [sys.executable, str(export / "use.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        env={**kept, "NO_PROXY": "127.0.0.1", **environment},
    )
    return Said(done.returncode, done.stdout, done.stderr)


def run(toy: Toy, *more: object) -> Path:
    """A run of the baselines; the folder of all runs."""
    root = toy.folder.parent / "runs"
    said = say("run", *toy.arguments("--root", root, "--name", "first", "--iterations", 0, "--quiet", *more))
    assert said.code == 0, said.err
    return root


def toy_of(folder: Path, *candidates: str | Mapping[str, str]) -> Toy:
    named = {f"{place:02d}" + ("" if isinstance(one, dict) else ".py"): one for place, one in enumerate(candidates)}
    return write_toy(folder / "domain", baselines=named, proposals={})


def exported(root: Path, *arguments: object) -> Path:
    to = root.parent / "out"
    said = say("export", "first", *arguments, "--root", root, "--to", to)
    assert said.code == 0, said.err
    assert said.out == f"{to}\n"
    return to


def requirements(export: Path) -> list[str]:
    """The lines of `requirements.txt` after the first, which says where metaharness comes from."""
    first, *further = (export / "requirements.txt").read_text().splitlines()
    assert first.startswith(f"# metaharness {__version__} comes from its repository, not from the package index")
    assert not any(line.startswith("metaharness") for line in further), "an installer would ask the index for it"
    return further


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def traces(root: Path, number: int) -> dict[str, Any]:
    """Input to output, of the cases that a candidate was asked."""
    return {line["input"]: line["output"] for line in lines(root / f"first/iterations/{number:03d}/eval_trace.jsonl")}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return write_toy(tmp_path_factory.mktemp("export") / "domain")


@pytest.fixture(scope="module")
def root(toy: Toy) -> Path:
    """A run with rejected and complete candidates, none of which is changed by a test."""
    root = toy.folder.parent / "runs"
    assert say("run", *toy.arguments("--root", root, "--name", "first", "--quiet")).code == 0
    return root


# --- using it ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_program_answers_what_the_run_has_recorded(tmp_path: Path) -> None:
    """The second baseline draws its demonstrations by `model.random`, so it has to learn with the run's own seed."""
    rows = [{"text": text, "label": label} for label, texts in TEXTS.items() for text in texts.split("|")]
    (tmp_path / "data").mkdir()
    for split, chosen in (("train", rows * 4), ("search", rows[::2]), ("test", rows[:1])):
        unlike = [{**row, "text": f"{row['text']}, {place} {split}"} for place, row in enumerate(chosen)]
        (tmp_path / "data" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in unlike))
    root = tmp_path / "runs"
    options = ("--data", tmp_path / "data", "--root", root, "--name", "first", "--seed", 7, "--quiet")
    assert say("run", "-d", "text_classification", *options, "--iterations", 1).code == 0
    for number in (1, 3):
        to = tmp_path / f"out-{number}"
        assert say("export", "first", number, "--root", root, "--to", to).code == 0
        recorded = traces(root, number)
        assert len(recorded) == 4
        for text, output in recorded.items():
            assert ask(to, text, cwd=tmp_path) == (0, f"{output}\n", "")


def test_what_learn_draws_at_random_is_what_it_drew_in_the_run(tmp_path: Path) -> None:
    draws = "class Harness:\n    def learn(self, examples, model):\n        self.drawn = model.random.random()\n"
    toy = toy_of(tmp_path, f"{draws}\n    def predict(self, text, model):\n        return self.drawn\n")
    root = run(toy, "--seed", 12345)
    drawn = set(traces(root, 0).values())
    assert len(drawn) == 1
    assert json.loads(ask(exported(root), "item 00").out) in drawn


@pytest.mark.parametrize(
    ("candidate", "answer"),
    [(harness("good"), "green"), (LEARNS, "green after 3"), (ASYNC, ["red", "green"]), (FOLDER, "green")],
    ids=["plain", "learns", "async", "folder"],
)
def test_every_form_of_a_harness_is_built_taught_and_asked(candidate: Any, answer: Any, tmp_path: Path) -> None:
    root = run(toy_of(tmp_path, candidate))
    assert traces(root, 0)["item 01"] == answer
    to = exported(root)
    assert (to / "harness" / "harness.py").is_file() == isinstance(candidate, dict)
    said = ask(to, "item 01", cwd=Path("/"))
    assert (said.code, said.err) == (0, "")
    assert said.out == (answer if isinstance(answer, str) else json.dumps(answer)) + "\n"


def test_a_driver_comes_along_and_an_input_that_is_no_text_is_given_as_json(tmp_path: Path) -> None:
    toy = toy_of(tmp_path, DRIVEN)
    (toy.folder / "driver.py").write_text(DRIVER)
    domain = toy.folder / "domain.py"
    domain.write_text(domain.read_text().replace('input=row["text"]', 'input={"item": row["text"]}'))
    root = run(toy)
    to = exported(root)
    assert set(contents(to)) == {*FILES, "harness.py", "driver.py"}
    assert (to / "driver.py").read_text() == DRIVER
    recorded = lines(root / "first/iterations/000/eval_trace.jsonl")[0]
    said = ask(to, json.dumps(recorded["input"]), cwd=tmp_path)
    assert json.loads(said.out) == recorded["output"] == {**recorded["output"], "seen": ["red", "green", "blue"]}
    page = (to / "README.md").read_text()
    assert """\npython use.py '{"item": "train item 00"}'\n""" in page
    assert "the input is given as JSON" in page
    odd = ask(to, "no JSON, so a text")
    assert (odd.code, odd.out) == (1, "")
    told, hint = odd.err.splitlines()
    assert told.startswith("error: the harness failed: TypeError: ")
    assert told.endswith(" (driver.py, line 12)")
    assert hint == "hint: give an input of the kind that it was asked in its run: examples.jsonl shows some"


def test_a_driver_that_leaves_functions_out_drives_as_the_default_does(tmp_path: Path) -> None:
    toy = toy_of(tmp_path, FOLDER)
    (toy.folder / "driver.py").write_text("def ask(harness, case_input, model):\n    return [case_input]\n")
    to = exported(run(toy))
    assert ask(to, "[1, 2]") == (0, '["[1, 2]"]\n', "")  # all inputs of this domain are texts: this is one, too


def test_without_an_input_the_program_says_how_it_is_used(root: Path, tmp_path: Path) -> None:
    to = tmp_path / "out"
    say("export", "first", "--root", root, "--to", to)
    assert ask(to) == (1, "", 'usage: python use.py "some text"\n')


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["anthropic", "openai"])
def test_a_remote_model_is_reached_with_its_key_and_one_that_is_gone_is_told(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"{kind.upper()}_API_KEY"
    monkeypatch.setenv(key, "dummy")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    toy = toy_of(tmp_path, harness("good"))
    with serve(lambda request: Reply(text=request.last_text.upper())) as server:
        url = server.url if kind == "anthropic" else f"{server.url}/v1"
        to = exported(run(toy, "--model", f"{kind}:some-model", "--base-url", url))
        assert requirements(to) == [f"{kind}{sdk_bounds(kind)}"]
        assert json.loads((to / "numbers.json").read_text())["model"] == f"{kind}:some-model"
        assert ask(to, "item x", **{key: "another"}) == (0, "[GOOD] ITEM X\n", "")
        assert server.requests[-1].headers["authorization"] == "Bearer another"
    gone = ask(to, "item x", **{key: "another"})
    assert (gone.code, gone.out) == (1, "")
    assert gone.err.startswith("error: Connection error")


@pytest.mark.slow
def test_a_key_that_is_missing_or_refused_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    refuse = [False]

    def reply(request: Received) -> Reply:
        return Reply(status=401, message="bad key") if refuse[0] else Reply(text="yes")

    with serve(reply) as server:
        url = f"{server.url}/v1"
        root = run(toy_of(tmp_path, harness("good")), "--model", "openai:some-model", "--base-url", url)
        to = exported(root)
        refuse[0] = True
        refused = ask(to, "item x")
    assert (refused.code, refused.out) == (1, "")
    assert "bad key" in refused.err
    assert "hint: check OPENAI_API_KEY" in refused.err
    program = to / "use.py"  # a server on this machine needs no key; one elsewhere does
    program.write_text(program.read_text().replace(server.url, "http://192.0.2.1"))
    hint = "hint: export OPENAI_API_KEY=...\n"
    assert ask(to, "item x") == (1, "", f"error: no key: OPENAI_API_KEY is not set\n{hint}")


def test_the_deadline_of_the_domain_is_kept(tmp_path: Path) -> None:
    toy = toy_of(tmp_path, harness("good"))
    domain = toy.folder / "domain.py"
    limits = "from metaharness.records import Limits\n"
    named = '    name = "colours"\n'
    domain.write_text(limits + domain.read_text().replace(named, f"{named}    limits = Limits(call_seconds=1.5)\n"))
    assert ", deadline=1.5)" in (exported(run(toy)) / "use.py").read_text()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise SystemExit(0)", "SystemExit: 0 (harness.py, line 6)"),
        ("raise ValueError('one\\ntwo')", "ValueError: one two (harness.py, line 6)"),
        ("return {1}", "TypeError: Object of type set is not JSON serializable"),
    ],
)
def test_a_harness_that_fails_is_told_in_one_line(body: str, told: str, tmp_path: Path) -> None:
    late = f"if text == 'odd':\n    {body}"
    to = exported(run(toy_of(tmp_path, harness("good", body=late))), "--no-examples")
    assert ask(to, "item 01").out == "green\n"
    hint = "give an input of the kind that it was asked in its run: its domain says what they are"
    assert ask(to, "odd") == (1, "", f"error: the harness failed: {told}\nhint: {hint}\n")


# --- in a program of one's own ----------------------------------------------------------------------------------

SIBLINGS = {
    "harness.py": "import helper\nimport parts.inner as inner\nfrom parts import NAME\n\n\nclass Harness:\n"
    "    def predict(self, text, model):\n"
    "        import late\n        from space.deep import WHERE\n"
    "        return [helper.NAME, inner.NAME, NAME, late.NAME, late.back(), WHERE, text]\n",
    "helper.py": "NAME = 'helper MARK'\n",
    "late.py": "import harness\nfrom helper import NAME\n\n\ndef back():\n    return harness.NAME\n",
    "parts/__init__.py": "from .inner import NAME\n",
    "parts/inner.py": "NAME = 'inner MARK'\n",
    "space/deep.py": "WHERE = 'deep MARK'\n",
    "json.py": "raise ImportError('a worker has this module before')\n",
}


class Echo:
    """The answer of a model that says what it is asked."""

    def __init__(self, text: str) -> None:
        self.answer = {"completion": {"text": text}}

    def wait(self) -> dict[str, Any]:
        return self.answer

    async def wait_async(self) -> dict[str, Any]:
        return self.answer


def marked(mark: str) -> dict[str, str]:
    return {path: text.replace("MARK", mark) for path, text in SIBLINGS.items()}


def test_two_exports_in_one_process_each_use_their_own_code_and_the_files_beside_it(tmp_path: Path) -> None:
    root = run(toy_of(tmp_path, marked("a"), marked("b")))
    before, outputs = set(sys.modules), {}
    with connect("embedded:icl") as model:
        built = {}
        for number in (0, 1):
            to = tmp_path / f"out-{number}"
            assert say("export", "first", number, "--root", root, "--to", to).code == 0
            built[number] = ExportedHarness(to, model)
        for number, one in built.items():  # only now what `predict` imports is loaded
            outputs[number] = one.ask("item 01")
    for number, mark in enumerate("ab"):
        values = [f"{name} {mark}" for name in ("helper", "inner", "inner", "helper", "inner", "deep")]
        assert outputs[number] == [*values, "item 01"] == traces(root, number)["item 01"]
    plain = {name for name in set(sys.modules) - before if not name.startswith("metaharness_exported_")}
    assert not plain & {"harness", "helper", "late", "parts", "space"}
    assert not list(tmp_path.glob("out-*/**/__pycache__"))


def test_single_files_do_not_see_each_other_and_a_folder_written_anew_is_loaded_anew(tmp_path: Path) -> None:
    root = run(toy_of(tmp_path, harness("good"), harness("plain")))
    to = exported(root)
    model = Model(lambda request: Echo(request["messages"][0]["content"]), 0)
    first = ExportedHarness(to, model)
    (to / "harness.py").write_text((to / "harness.py").read_text().replace("[good]", "[next]"))
    (to / "beside.py").write_text("")
    second = ExportedHarness(to, model)
    assert (first.ask("x"), second.ask("x")) == ("[good] x", "[next] x")
    (to / "harness.py").write_text("import beside\n")
    with pytest.raises(ModuleNotFoundError, match="No module named 'beside'"):
        ExportedHarness(to, model)


@pytest.mark.parametrize(("candidate", "answer"), [(ASYNC, ["red", "blue"]), (harness("good"), "blue")])
def test_inside_a_running_loop_it_is_built_taught_and_asked(candidate: str, answer: Any, tmp_path: Path) -> None:
    toy = toy_of(tmp_path, candidate)
    to = exported(run(toy))

    async def asked() -> None:
        with connect(f"scripted:{toy.script}") as model:
            one = ExportedHarness(to, model)
            assert await one.ask_async("item 02") == answer
            assert one.ask("item 02") == answer
            assert await asyncio.gather(*(one.ask_async("item 02") for _ in range(3))) == [answer] * 3

    asyncio.run(asked())


def test_while_an_answer_is_awaited_the_loop_goes_on(tmp_path: Path) -> None:
    to = exported(run(toy_of(tmp_path, harness("good"))))
    released = threading.Event()

    def held(request: dict[str, Any]) -> Any:
        assert released.wait(60)
        return Echo(request["messages"][0]["content"])

    async def asked() -> str:
        call = asyncio.create_task(ExportedHarness(to, Model(held, 0)).ask_async("x"))
        await asyncio.sleep(0)
        assert not call.done()
        released.set()
        return str(await call)

    assert asyncio.run(asked()) == "[good] x"


# --- what is in it ----------------------------------------------------------------------------------------------


def test_the_best_complete_candidate_goes_out_unchanged_with_its_numbers(root: Path, tmp_path: Path) -> None:
    to = tmp_path / "out"
    said = say("export", "latest", "--root", root, "--to", to)
    assert (said.code, said.out) == (0, f"{to}\n")
    assert "iteration 007, 06_short, of run first" in said.err
    files = contents(to)
    assert set(files) == {*FILES, "harness.py"}
    numbers = json.loads(files["numbers.json"])
    assert files_hash({"harness.py": files["harness.py"]}) == numbers["candidate_hash"]
    score = json.loads((root / "first/iterations/007/score.json").read_text())
    assert (numbers["run"], numbers["iteration"], numbers["name"]) == ("first", 7, "06_short")
    assert (numbers["domain"], numbers["split"], numbers["sandbox"]) == ("colours", "search", "process")
    assert (numbers["state"], numbers["test"], numbers["version"]) == ("complete", None, __version__)
    assert numbers["objectives"]["accuracy"] == {"direction": "max", "unit": "", **score["objectives"]["accuracy"]}
    assert (numbers["context_chars"], numbers["scored"]) == (score["context_chars"], score["finished"])
    assert numbers["cases"] == {name: score[name] for name in ("planned", "ended", "missing", "statuses", "trials")}
    assert numbers["verdict"]["verdict"] == "indecisive"
    assert requirements(to) == []
    readme = files["README.md"].decode()
    for part in ("# first, iteration 007: 06_short", "| accuracy | 1 |", "no sandbox", "sealed test", "use.py"):
        assert part in readme
    assert "Warning" not in readme


@needs_uv
def test_a_folder_keeps_its_files_apart_from_those_of_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "environments"))
    toy = toy_of(tmp_path, FOLDER)
    line = f"tiny @ file://{wheel(tmp_path / 'wheels')}"
    (toy.folder / "harness-requirements.txt").write_text(f"{line}\n# ours\n")
    to = exported(run(toy))
    inside = {path.removeprefix("harness/"): text for path, text in contents(to).items() if path.startswith("harness/")}
    assert inside == {path: text.encode() for path, text in FOLDER.items()}
    assert (to / "README.md").read_text() != FOLDER["README.md"]
    assert requirements(to) == ["numpy>=2", "# ours", line]


def test_the_examples_are_the_training_cases_and_no_other_case_goes_out(toy: Toy, root: Path, tmp_path: Path) -> None:
    to = tmp_path / "out"
    say("export", "first", 4, "--root", root, "--to", to)
    cases = lines(toy.folder / "data" / "train.jsonl")
    assert lines(to / "examples.jsonl") == [{"input": row["text"], "expected": row["colour"]} for row in cases]
    everything = b"\n".join(contents(to).values()).decode()
    for split in ("search", "test"):
        for row in lines(toy.folder / "data" / f"{split}.jsonl"):
            assert f'"{row["text"]}"' not in everything


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("who's there?", """'who'"'"'s there?'"""),
        ("$(date) `date`", "'$(date) `date`'"),
        ("x" * 199, "x" * 199),
        ("x" * 200, '"some text"'),
        ("two\nlines", '"some text"'),
        ("a ``` fence", '"some text"'),
        ("", '"some text"'),
    ],
)
def test_the_command_it_shows_has_a_first_input_as_it_is_typed(text: str, typed: str, tmp_path: Path) -> None:
    toy = toy_of(tmp_path, "class Harness:\n    def predict(self, text, model):\n        return text\n")
    train = toy.folder / "data" / "train.jsonl"
    train.write_text(json.dumps({"id": "first", "text": text, "colour": "red"}) + "\n" + train.read_text())
    to = exported(run(toy))
    page = (to / "README.md").read_text()
    assert f"\npython use.py {typed}\n```\n" in page
    assert "The input is a text, given as it is" in page
    assert "from a clone of its repository, `uv pip install .`" in page
    if typed != '"some text"':
        typing = ["sh", "-c", f"{shlex.quote(sys.executable)} use.py {typed}"]
        done = subprocess.run(typing, cwd=to, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == (f"{text}\n", "")


def test_nothing_in_it_names_a_place_on_this_machine(root: Path, tmp_path: Path) -> None:
    to = tmp_path / "out"
    say("export", "first", "--root", root, "--to", to)
    texts = {path: text.decode() for path, text in contents(to).items()}
    repository = str(Path(__file__).resolve().parents[2])
    assert [path for path, text in texts.items() if repository in text or str(tmp_path) in text] == []


def test_a_sealed_test_in_which_no_case_came_to_a_value_is_said_to_have_none(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / "domain", baselines={"00.py": harness("plain")}, proposals={"01.py": harness("good")})
    root = tmp_path / "runs"
    done = say("run", *toy.arguments("--root", root, "--name", "first", "--iterations", 1, "--quiet"))
    assert done.code == 0, done.err
    error = {"kind": "infrastructure", "message": "overloaded", "status_code": 529}
    toy.write_script([{"contains": "test item", "error": error}, *rules()])
    ended = say("finish", "first", "--root", root, "--yes", "--accept-missing", "--quiet")
    assert ended.code == 0, ended.err
    to = exported(root)
    assert json.loads((to / "numbers.json").read_text())["test"]["objectives"] == {}
    page = (to / "README.md").read_text()
    assert "On the 3 sealed test cases (look 1) its accuracy has no value; verdict of that test: indecisive." in page


def test_texts_that_must_not_be_stored_are_not_and_that_is_said(tmp_path: Path) -> None:
    toy = toy_of(tmp_path, harness("good"))
    domain = toy.folder / "domain.py"
    redact = '\n    def redact(self, text):\n        return text.replace("item 01", "[item]")\n'
    domain.write_text(domain.read_text().replace("\n\ndef domain(", redact + "\n\ndef domain("))
    root = run(toy)
    said = say("export", "first", "--root", root, "--to", tmp_path / "out", "--json")
    assert said.page["warnings"] == ["1 examples were redacted: the run was taught with the texts as they are"]
    assert "train [item]" in (tmp_path / "out" / "examples.jsonl").read_text()
    assert "item 01" not in (tmp_path / "out" / "examples.jsonl").read_text()
    domain.write_text(domain.read_text().replace("item 01", "nothing"))
    again = say("run", *toy.arguments("--root", root, "--name", "again", "-n", 0, "--quiet"))
    assert again.code == 0
    assert say("export", "again", "--root", root, "--to", tmp_path / "again", "--json").page["warnings"] == []


def test_what_a_run_had_and_the_export_has_not_is_said(tmp_path: Path) -> None:
    toy = toy_of(tmp_path, harness("good"))
    domain = toy.folder / "domain.py"
    changed = f'    name = "colours"\n    online = True\n    python = {sys.executable!r}'
    domain.write_text(domain.read_text().replace('    name = "colours"', changed))
    said = say("export", "first", "--root", run(toy), "--to", tmp_path / "out")
    assert "warning: in the run it learned from each answer in turn" in said.err
    assert f"warning: in the run it was executed by {sys.executable}" in said.err


def test_as_json_it_says_where_and_what_it_has_written(root: Path, tmp_path: Path) -> None:
    said = say("export", "first", 4, "--root", root, "--to", tmp_path / "a" / "b", "--json")
    assert (said.code, said.err) == (0, "")
    page = said.page
    assert page["path"] == str(tmp_path / "a" / "b")
    assert set(page["files"]) == set(contents(tmp_path / "a" / "b"))
    assert {"harness/harness.py", "harness/notes.txt"} <= set(page["files"])
    assert page["warnings"] == []
    assert page["numbers"] == json.loads((tmp_path / "a" / "b" / "numbers.json").read_text())


def test_without_a_place_it_goes_into_the_working_directory_by_run_and_number(root: Path, tmp_path: Path) -> None:
    done = executed("export", "fir", 0, "--root", root, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'first-000'}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["first-000"]


# --- what does not go out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["first", "3"], "iteration 003 was rejected at syntax", "leave the number out"),
        (["first", "99"], "there is no iteration 099", "recorded iterations: 000 to 007"),
        (["nope"], "there is no run 'nope'", "runs here, newest first: first"),
    ],
)
def test_what_is_not_there_or_does_not_work_is_not_exported(
    arguments: list[str], message: str, hint: str, *, root: Path, tmp_path: Path
) -> None:
    assert_complains(say("export", *arguments, "--root", root, "--to", tmp_path / "out"), 2, message, hint)
    assert list(tmp_path.iterdir()) == []


def test_an_incomplete_candidate_goes_out_by_its_number_alone_and_with_a_warning(tmp_path: Path) -> None:
    toy = toy_of(tmp_path, harness("good"))
    error = {"kind": "infrastructure", "message": "overloaded", "status_code": 529}
    toy.write_script([{"contains": "[good] item 09", "error": error}, *rules()])
    root = run(toy)
    hint = "`metaharness scoreboard first`"
    assert_complains(say("export", "first", "--root", root, "--to", tmp_path / "out"), 2, "no complete candidate", hint)
    said = say("export", "first", 0, "--root", root, "--to", tmp_path / "out")
    assert said.code == 0
    assert "warning: iteration 000 is incomplete: 1 of 12 cases are missing" in said.err
    numbers = json.loads((tmp_path / "out" / "numbers.json").read_text())
    assert (numbers["state"], numbers["cases"]["missing"]) == ("incomplete", 1)
    assert "**Warning:** iteration 000 is incomplete" in (tmp_path / "out" / "README.md").read_text()
    (root / "first/iterations/000/score.json").unlink()
    said = say("export", "first", 0, "--root", root, "--to", tmp_path / "pending")
    assert "warning: iteration 000 has no score yet" in said.err
    assert json.loads((tmp_path / "pending" / "numbers.json").read_text())["objectives"] == {}
    assert ask(tmp_path / "pending", "item 01").out == "green\n"


def test_nothing_that_is_there_is_overwritten(root: Path, tmp_path: Path) -> None:
    full, file, empty = tmp_path / "full", tmp_path / "file", tmp_path / "empty"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    file.write_text("mine")
    empty.mkdir()
    link = tmp_path / "link"
    link.symlink_to(full)
    for taken in (full, file, link):
        said = say("export", "first", "--root", root, "--to", taken)
        assert_complains(said, 2, "is there already, and is not an empty folder", "choose another place with --to")
    link.unlink()
    assert contents(tmp_path) == {"full/mine.txt": b"mine", "file": b"mine"}
    assert {path.name for path in tmp_path.iterdir()} == {"full", "file", "empty"}
    assert say("export", "first", "--root", root, "--to", empty).code == 0
    assert (empty / "use.py").is_file()
    done = executed("export", "first", "--root", root, "--to", ".", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "the place of the working directory" in done.stderr


def test_a_place_that_cannot_be_written_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = say("export", "first", "--root", root, "--to", tmp_path / "file" / "out")
    assert_complains(said, 1, "cannot write the export", "choose another with --to")
    said = say("export", "first", "--root", root, "--to", tmp_path / ("long" * 100))
    assert_complains(said, 1, "File name too long", "choose another with --to")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_when_writing_fails_half_way_nothing_is_left_behind(root: Path, tmp_path: Path) -> None:
    parent = tmp_path
    while len(str(parent)) < LONGEST_PATH - 250:
        parent /= "d" * 100
    parent.mkdir(parents=True)
    to = parent / ("o" * (LONGEST_PATH - 10 - len(str(parent))))  # room for the folder, and for no file in it
    said = say("export", "first", "--root", root, "--to", to)
    assert_complains(said, 1, "cannot write the export", "choose another with --to")
    assert "File name too long" in said.err
    assert list(parent.iterdir()) == []


def test_requirements_that_have_changed_are_told_as_other_code_of_the_domain_is(tmp_path: Path) -> None:
    toy = toy_of(tmp_path, harness("good"))
    root = run(toy)
    (toy.folder / "harness-requirements.txt").write_bytes(b"\xff")
    said = say("export", "first", "--root", root, "--to", tmp_path / "out")
    assert_complains(said, 3, "changed: its code", "--no-examples")


def test_an_objective_without_an_interval_is_shown_without_one(tmp_path: Path) -> None:
    to = exported(run(toy_of(tmp_path, harness("good")), "--limit", 1))
    assert json.loads((to / "numbers.json").read_text())["objectives"]["context_chars"]["low"] is None
    assert "| context_chars | 14 | - | 1 |" in (to / "README.md").read_text()


def test_a_candidate_whose_files_were_changed_in_the_run_is_refused(root: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(root, tmp_path / "runs")
    (moved / "first/iterations/007/harness.py").write_text(harness("x"))
    said = say("export", "first", "--root", moved, "--to", tmp_path / "out")
    assert_complains(said, 1, "the files are not those that were submitted", "restore the file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("code", "is not the one that run first was begun with; changed: its code"),
        ("data", "is not the one that run first was begun with; changed: the train split"),
        ("gone", "the domain colours of run first cannot be loaded any more: "),
        ("broken", "the domain colours of run first cannot be loaded any more: importing"),
    ],
)
def test_a_domain_that_is_not_the_one_of_the_run_stops_it_unless_examples_are_left_out(
    change: str, message: str, tmp_path: Path
) -> None:
    toy = toy_of(tmp_path, LEARNS.replace("{len(self.shown)}", "{hasattr(self, 'shown')}"))
    root = run(toy)
    domain, train = toy.folder / "domain.py", toy.folder / "data" / "train.jsonl"
    if change == "gone":
        domain.unlink()
    elif change == "data":
        train.write_text(train.read_text().replace("red", "rot"))
    else:
        domain.write_text(("import nothing\n" if change == "broken" else "# changed\n") + domain.read_text())
    before = say("export", "first", "--root", root, "--to", tmp_path / "out")
    assert_complains(before, 3, message, "--no-examples to go on without examples and driver")
    assert not (tmp_path / "out").exists()
    said = say("export", "first", "--root", root, "--to", tmp_path / "out", "--no-examples")
    assert said.code == 0
    told = "without examples: the harness has to be taught" if change == "data" else "without driver and examples: "
    assert f"warning: {told}" in said.err
    assert f"**Warning:** {told}" in (tmp_path / "out" / "README.md").read_text()
    assert set(contents(tmp_path / "out")) == {*FILES, "harness.py"} - {"examples.jsonl"}
    assert ask(tmp_path / "out", "item 01").out == "green after False\n"


def test_without_examples_the_driver_still_comes_along_while_the_domain_is_as_it_was(tmp_path: Path) -> None:
    toy = toy_of(tmp_path, DRIVEN)
    (toy.folder / "driver.py").write_text(DRIVER.replace('harness["seen"]}', 'harness.get("seen")}'))
    domain = toy.folder / "domain.py"
    domain.write_text(domain.read_text().replace('input=row["text"]', 'input={"item": row["text"]}'))
    to = exported(run(toy), "--no-examples")
    assert "driver.py" in contents(to)
    assert json.loads(ask(to, '{"item": "item 02"}').out) == {"text": "blue", "seen": None}
