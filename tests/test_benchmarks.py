"""Check what the benchmarks say of themselves: rows name contenders that exist, ratios are read the right way."""

import cProfile
import importlib
import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import growth, models, operators, page, race, racers, rounds, store, training
from benchmarks.profiling import PURPOSES, shares
from rwkv_np import RWKV4
from rwkv_np.language_model import LanguageModel

PARTS = operators, models, training, growth


def test_profile_gives_all_of_the_time_to_some_purpose(monkeypatch):
    model, tokens, profiles = RWKV4.init(17, 16, 2), np.arange(2 * 41).reshape(2, 41) % 17, []

    class Recorded(cProfile.Profile):
        def __init__(self):
            super().__init__()
            profiles.append(self)

    monkeypatch.setattr(cProfile, "Profile", Recorded)
    found = shares(lambda: model.loss_and_grads(tokens[:, :-1], tokens[:, 1:]), 10)
    assert {"WKV", "matrix products", "norms"} <= set(found) <= {*PURPOSES.values(), "WKV", "the rest"}
    total = sum(own for _, _, own, _, _ in profiles[0].stats.values())
    assert 10 * sum(found.values()) == pytest.approx(1e3 * total, rel=1e-6)


@pytest.mark.parametrize("generation", training.GENERATIONS)
def test_a_gradient_takes_little_more_memory_than_what_must_be_kept(generation):
    memory = training.peak_memory(generation)
    assert memory["kept"] < memory["peak"] <= training.MEMORY_GOAL * memory["kept"]


@pytest.mark.parametrize("row", [row for part in PARTS for row in part.ROWS],
                         ids=lambda row: f"{row.work}/{row.against}")
def test_every_row_names_contenders_that_exist(row):
    for name in (row.subject, row.other):
        module, function, *_ = name.split(":")
        if module in rounds.PEERS:                              # these import what may not be installed
            source = (store.RESULTS.parent / f"{module}.py").read_text(encoding="utf-8")
            assert f"\ndef {function}(" in source
        else:
            assert callable(getattr(importlib.import_module(f"benchmarks.{module}"), function))
    assert row.how in ("share", "faster", "time") and (row.goal is None or row.goal > 0)


def test_ratios_are_taken_within_rounds_and_say_who_is_faster(monkeypatch):
    seconds = {"mine": [1.0, 2.0, 4.0], "peers:other": [3.0, 6.0, 8.0]}
    monkeypatch.setattr(rounds, "interleaved", lambda names, _: (
        {name: np.array(seconds[name]) for name in names if name in seconds},
        {name: "it is not there" for name in names if name not in seconds}))
    rows = [rounds.Row("work", "mine", "it", "peers:other", how) for how in ("faster", "time")]
    *found, absent = rounds.measure([*rows, rounds.Row("work", "mine", "no one", "peers:absent", "faster")], None)
    assert [result["ratio"] for result in found] == [3.0, pytest.approx(1 / 3)]
    assert found[0]["middle_half"] == [2.5, 3.0] and found[0]["ms"] == 2000 and found[0]["other_ms"] == 6000
    assert absent["missing"] == "it is not there" and "ratio" not in absent


def test_contenders_take_turns_in_processes_of_their_own():
    setting = rounds.Setting(threads=1, rounds=1)
    times, missing = rounds.interleaved(["operators:forward:5:1:8", "peers:nothing"], setting)
    assert times["operators:forward:5:1:8"][0] > 0 and "nothing" in missing["peers:nothing"]
    with pytest.raises(RuntimeError, match="operators:nothing"):
        rounds.interleaved(["operators:nothing"], setting)


def test_a_ratio_that_misses_its_goal_does_not_look_as_if_it_did_not():
    assert page.round_ratio(1.149, "faster") == "1.14x" and page.round_ratio(0.929, "share") == "0.92x"
    assert page.round_ratio(1.001, "time") == "1.01" and page.round_ratio(0.25, "time") == "0.25"
    for ratio, how, goal, expected in ((1.2, "faster", 1.15, "at least 1.15: reached"), (5.0, "faster", None, ""),
                                       (1.1, "share", 1.15, "at least 1.15: not reached"),
                                       (0.9, "time", 1.0, "at most 1: reached"),
                                       (1.1, "time", 1.0, "at most 1: not reached")):
        assert page.verdict({"ratio": ratio, "how": how, "goal": goal}) == expected


def test_the_page_says_which_parts_were_not_measured_with_this_code(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(page, "DOCS", tmp_path)
    row = {"work": "one token", "against": "its bound", "how": "share", "goal": 0.9, "rounds": 4}
    for part, code in (("operators", store.code_hash()), ("models", "older")):
        store.write(part, {"circumstances": store.circumstances(2, {}) | {"code": code}, "rows": [
            row | {"ms": 2.0, "other_ms": 1.0, "ratio": 0.5, "middle_half": [0.4, 0.6]},
            row | {"against": "a peer", "missing": "it is not there"}]})
    page.write()
    text = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "{{" not in text and text.count("Not measured yet with this code") == 3
    assert text.count("was changed after that") == 1
    assert "| one token | 2.0 ms | its bound | 1.0 ms | 0.50x (0.40x to 0.60x) | at least 0.9: not reached |" in text
    assert "Not measured: one token against a peer, since it is not there." in text


def test_the_hash_of_the_code_ignores_comments_and_docstrings(tmp_path, monkeypatch):
    hashes = []
    for code in ('"""One."""\nx = 1', '"""Two."""\nx = 1  # a comment', '"""Two."""\nx = 2'):
        (tmp_path / "a.py").write_text(code)
        hashes.append(store.code_hash.__wrapped__(tmp_path))
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("generation", "467")
def test_the_bound_counts_the_products_of_a_token(generation, monkeypatch):
    """Against the FLOPs of a model that says when it multiplies: every matrix once, but for the embedding."""
    monkeypatch.setitem(models.SHAPES, generation, {"vocab_size": 50, "d_model": 64, "n_layer": 2})
    params = models.random_params(generation)
    model = LanguageModel.classes[int(generation)](params)
    monkeypatch.setattr(models, "load", lambda _: model)
    vectors = sum(p.size for name, p in params.items() if p.ndim == 1 or name.endswith(("r_k", "time_faaaa")))
    unused = sum(params[name].size for name in params if name.startswith("blocks.0.att.v") and name[-1] in "12")
    assert sum(p.size for p in models.products(generation)) == (
        sum(p.size for p in params.values()) - params["emb.weight"].size - vectors - unused)
    for function in (models.decode_bound, models.read_bound):
        function(generation)[0]()


@pytest.mark.parametrize("name", racers.NAMES)
@pytest.mark.parametrize("head_size, context", [(64, 256), (32, 64)])
def test_racers_have_the_same_parameters(name, head_size, context):
    goal = racers.count("RWKV-4", 65, None, None, None)
    size = racers.choose_size(name, 65, head_size, context)
    assert racers.count(name, 65, head_size, context, size["d_ffn"]) == pytest.approx(goal, rel=0.02)
    config = racers.configure({"learning_rate": 1e-3, "context_length": context}, 10, 0)
    assert config.batch_size * config.context_length == racers.BATCH_TOKENS


@pytest.fixture
def small_race(tmp_path, monkeypatch):
    """Make races short: a small text and model; return the path of the text."""
    monkeypatch.setattr(store, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(race, "FOLDER", tmp_path / "out")
    monkeypatch.setattr(racers, "SIZE", {"d_model": 64, "n_layer": 1})
    monkeypatch.setattr(racers, "BATCH_TOKENS", 128)
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 40)
    return text


def test_an_interrupted_race_continues_as_if_it_had_not_been(small_race, monkeypatch):
    job = {"name": "RWKV-7", "kind": "time", "seed": 0, "steps": 4, "validations": 4,
           "settings": {"learning_rate": 4e-3, "head_size": 32, "context_length": 64}}
    race.do(job | {"key": "whole"}, small_race)
    step = racers.step

    def interrupt(run, *rest):
        if run.step == 2:
            raise KeyboardInterrupt
        step(run, *rest)

    monkeypatch.setattr(racers, "step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        race.do(job | {"key": "cut"}, small_race)
    assert [point[0] for point in race.runs()["cut"]["curve"]] == [1, 2] and "finished" not in race.runs()["cut"]
    monkeypatch.setattr(racers, "step", step)
    race.do(job | {"key": "cut"}, small_race)
    whole, cut = race.runs()["whole"], race.runs()["cut"]
    assert [(n, loss) for n, _, loss in cut["curve"]] == [(n, loss) for n, _, loss in whole["curve"]]
    assert cut["finished"] and cut["carried"] == whole["carried"] and not list(race.FOLDER.iterdir())


def test_the_search_takes_the_best_of_each_setting_and_repeats_nothing(small_race):
    by_rate, by_size, ran = {4e-3: 2.0, 2e-3: 1.5, 8e-3: 1.8}, {64: 0.1, 32: 0.0}, []

    def run_it(settings):
        ran.append(settings)
        loss = by_rate[settings["learning_rate"]] + by_size[settings["head_size"]] + settings["context_length"] / 1e3
        race.keep(race.search_key("RWKV-6", settings, 5), {"curve": [[5, 1.0, loss]], "finished": True})

    best = {"learning_rate": 2e-3, "head_size": 32, "context_length": 64}
    assert race.best_settings("RWKV-6", 5, run_it) == best
    assert len(ran) == 6 and race.best_settings("RWKV-6", 5, None) == best
    assert race.finalists("RWKV-6", 5, None) == [best, best | {"context_length": 256}]      # the longest goes on too


def test_the_race_at_equal_time_takes_the_best_settings_of_that_at_equal_tokens(small_race, monkeypatch):
    monkeypatch.setattr(race, "SECONDS", 0.1)
    monkeypatch.setattr(racers, "BATCH_TOKENS", 512)                        # two sequences of the longest context
    monkeypatch.setattr(race, "start", lambda job, *_: race.keep(job["key"], job | {
        "curve": [[job["steps"], 1.0, job["settings"]["context_length"]]], "finished": True}))
    options = SimpleNamespace(only=["RWKV-7"], seed=0, search_steps=5, steps=9, minutes=1, text="")
    options.command = "time"
    with pytest.raises(SystemExit, match="equal tokens comes first"):
        list(race.jobs(options, None))
    options.command = "tokens"
    contexts = []
    for job in race.jobs(options, None):
        contexts.append(job["settings"]["context_length"])
        loss = 2 - len(contexts)                                            # the second is better
        race.keep(job["key"], job | {"curve": [[9, 1.0, loss]], "finished": True})
    assert contexts == [64, 256] and not list(race.jobs(options, None))
    options.command = "time"
    with pytest.raises(SystemExit, match="timing of a step comes first"):
        list(race.jobs(options, None))
    for _ in range(2):
        race.time_step(job | {"key": race.timing_key("RWKV-7", job["settings"])}, small_race)
    (job,) = race.jobs(options, None)
    seconds = race.runs()[race.timing_key("RWKV-7", job["settings"])]["step_seconds"]
    assert job["settings"]["context_length"] == 256
    assert len(seconds) == 2 and job["steps"] == pytest.approx(60 / np.mean(seconds), rel=1e-3)


def test_a_race_that_was_not_timed_is_shown_too(small_race, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "DOCS", tmp_path)
    settings = {"learning_rate": 0.004, "head_size": 32, "context_length": 64}
    race.keep(race.tokens_key("RWKV-5", settings, 2, 0), {
        "name": "RWKV-5", "kind": "tokens", "seed": 0, "steps": 2, "parameters": 10, "tokens_per_step": 128,
        "settings": settings, "curve": [[1, 9.0, 1.9], [2, 18.0, 1.8]]})
    assert "| RWKV-5 (running) | 10 | 0.004, 32, 64 | 2 |  | 1.8000 |" in page.race()
    assert (tmp_path / "race.png").exists()


def test_the_table_of_the_race_shows_the_longest_one(small_race):
    entry = {"name": "RWKV-5", "seed": 0, "parameters": 10, "finished": True, "carried": None, "steps": 2}
    shape = {"head_size": 32, "context_length": 64}
    for minutes, loss in ((2, 1.7), (15, 1.5)):
        race.keep(race.time_key("RWKV-5", minutes, 0), entry | {
            "kind": "time", "settings": {"learning_rate": 0.004} | shape, "curve": [[1, 60.0, loss], [2, 99.9, 1.6]]})
    for rate, loss in ((0.004, 1.9), (0.008, 1.8)):
        settings = {"learning_rate": rate} | shape
        race.keep(race.tokens_key("RWKV-5", settings, 2, 0), entry | {
            "kind": "tokens", "settings": settings, "curve": [[2, 9.0, loss]]})
        race.keep(race.timing_key("RWKV-5", settings), {"kind": "timing", "step_seconds": [0.2]})
    table = page.race_table(race.stored_races())
    assert "| equal time, seed 0 | RWKV-5 | 10 | 0.004, 32, 64 | 2 | 200 | 1.5000 | 1.6000 |  |" in table
    assert "| equal tokens, seed 0 | RWKV-5 | 10 | 0.008, 32, 64 | 2 | 200 | 1.8000 | 1.8000 |  |" in table
    assert "1.7" not in table and "1.9" not in table
    assert json.loads((store.RESULTS / "race.json").read_text())["runs"].keys() == race.runs().keys()
