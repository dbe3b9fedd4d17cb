"""``qpm bench report`` from records whose measures are computed by hand."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from click.testing import CliRunner

from qpm_bench import figures
from qpm_bench.cli import bench
from qpm_bench.curves import profile_of, scaling_series, trace_panel
from qpm_bench.judge import Judged
from qpm_bench.measures import GOULD_SCOTT_WARNING
from qpm_bench.outcomes import outcomes
from qpm_bench.records import Record, Status
from qpm_bench.report import write_report
from qpm_bench.report_tables import instances_table, spread_table
from qpm_bench.results import Instance, read_results
from qpm_opt import InvalidInputError, Problem

SCRIPT = "<script>alert('x')</script> & ](javascript:x) | $x$"


def selection_problem(bias=(10.0, 6.0, 2.0, 0.0)) -> Problem:
    """Two of four features, without classes: the objective is the sum of their values."""
    n = len(bias)
    return Problem(np.zeros((0, n)), np.zeros((n, n)), bias, n_selected=2, n_per_class=0)


def record_of(problem, method="exact", solver="", **fields) -> Record:
    number = record_of.count = getattr(record_of, "count", 0) + 1
    common = {"key": str(number), "instance": "one", "instance_sha256": problem.sha256}
    common |= {"seed": 0, "permutation": 0, "threads": 1, "time_limit": 100.0, "start_sha256": ""}
    common |= {"status": Status.TIME, "wall_time": 100.0, "peak_memory": 2**30}
    common |= {"date": "2026-01-02T03:04:05+00:00", "machine": {"system": "S"}}
    return Record(method=method, solver=solver, **common | fields)


def campaign(folder, problems, records, more=""):
    (folder / "instances").mkdir(parents=True)
    for name, problem in problems.items():
        problem.save(folder / "instances" / f"{name}.npz")
    lines = "".join(f"{record.to_json()}\n" for record in records)
    (folder / "records.jsonl").write_text(lines + more)
    return folder


@pytest.fixture
def no_png(monkeypatch):
    """Rendering takes most of the time of a report."""
    monkeypatch.setattr(figures, "as_png", lambda figure: b"")


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """Folder of a report on four runs: solved, unsolved, wrong, failed."""
    problem = selection_problem()
    records = [
        record_of(
            problem, status=Status.OK, selection=[0, 1], objective=16.0, bound=16.0,
            certified=True, wall_time=60.0, progress=[[0.0, 12.0, 20.0], [50.0, 16.0, 16.0]],
        ),
        record_of(
            problem, "compact", "highs", selection=[0, 2], objective=12.0, bound=18.0,
            progress=[[10.0, 12.0, 18.0]],
        ),
        record_of(
            problem, "compact", "cpsat", selection=[0, 2], objective=12.0, bound=14.0,
            progress=[[10.0, 12.0, 14.0]],
        ),
        record_of(problem, "paper", "highs", status=Status.ERROR, reason=SCRIPT),
    ]  # fmt: skip
    folder = campaign(tmp_path_factory.mktemp("campaign"), {"one": problem}, records)
    noise = {"times": [1.0, 1.1, 0.9], "relative_noise": 0.1, "date": "2026-01-01", "machine": {}}
    (folder / "noise.json").write_text(json.dumps(noise))
    outcome = CliRunner().invoke(bench, ["report", str(folder)], catch_exceptions=False)
    assert outcome.exit_code == 0
    assert outcome.stdout == f"4 runs: {folder / 'report' / 'report.html'}\n"
    return folder / "report"


def rows_of(path, key):
    with open(path, newline="", encoding="utf-8") as stream:
        return {row[key]: row for row in csv.DictReader(stream)}


def test_measures_of_runs_by_hand(reported):
    rows = rows_of(reported / "records.csv", "entrant")
    names = ("objective", "best", "relative_gap", "primal_gap", "time", "primal_integral")
    names += ("primal_dual_integral", "first_incumbent", "within_1_percent", "within_01_percent")
    found = {
        entrant: tuple(float(row[name] or "nan") for name in names) for entrant, row in rows.items()
    }
    inf, nan = float("inf"), float("nan")
    # Exact: gaps of 4/16 and 8/20 for 50 s. Highs: 1 for 10 s, then 4/16 and 6/18 for 90 s.
    expected = {
        "exact": (16, 16, 0, 0, 60, 12.5, 20, 0, 50, 50),
        "compact-highs": (12, 16, 0.5, 0.25, inf, 32.5, 40, 10, inf, inf),
        "compact-cpsat": (12, 16, 2 / 12, 0.25, inf, 100, 100, inf, inf, inf),
        "paper-highs": (nan, 16, nan, 1, inf, 100, 100, inf, inf, inf),
    }
    assert found.keys() == expected.keys()
    for entrant, values in expected.items():
        assert found[entrant] == pytest.approx(values, nan_ok=True), entrant
    assert [rows[entrant]["status"] for entrant in expected] == ["OK", "TIME", "WRONG", "ERROR"]
    assert rows["compact-cpsat"]["reason"].startswith("its bound 14 is below")
    assert rows["paper-highs"]["reason"] == SCRIPT
    assert rows["exact"]["stated_objective"] == "16.0" and "progress" not in rows["exact"]


def test_measures_of_entrants_by_hand(reported):
    rows = rows_of(reported / "summary.csv", "entrant")
    names = ("n_runs", "n_solved", "n_wrong", "mean_time", "par10", "primal_integral")
    found = {entrant: [float(row[name]) for name in names] for entrant, row in rows.items()}
    assert found == {
        "compact-cpsat": pytest.approx([1, 0, 1, 100, 1000, 100]),
        "compact-highs": pytest.approx([1, 0, 0, 100, 1000, 32.5]),
        "exact": pytest.approx([1, 1, 0, 60, 60, 12.5]),
        "paper-highs": pytest.approx([1, 0, 0, 100, 1000, 100]),
        "virtual best": pytest.approx([1, 1, 0, 60, 60, 12.5]),
    }
    assert rows["paper-highs"]["failures"] == "ERROR:1"


def test_the_markdown_shows_the_same(reported):
    text = (reported / "report.md").read_text(encoding="utf-8")
    assert "| one | 0 x 4 | 2, 0 | 16\\* | **WRONG** | 50 % | **60 s** | ERROR |" in text
    assert "- status: 1 ERROR, 1 OK, 1 TIME, 1 WRONG" in text
    assert "2026-01-02 03:04 to 2026-01-02 03:04 UTC" in text
    assert GOULD_SCOTT_WARNING in text
    assert "standard deviation / mean = 10 %" in text
    assert "<script" not in text.replace("\\<script", "") and "\\](javascript" in text
    for block in text.split("\n\n"):
        table = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count(" | ") for line in table}) <= 1


class Page(HTMLParser):
    """What a page would load, its elements, and its text by element."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.ids, self.classes, self._open = [], [], [], [], []
        self.words = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        held = dict(attributes)
        self.links += [held[name] for name in ("src", "href", "xlink:href") if name in held]
        self.ids += [held["id"]] if "id" in held else []
        self.classes.append((tag, held.get("class")))
        self._open = (tag, held.get("class"))

    def handle_data(self, data):
        if data.strip():
            self.words.append((self._open, data))


def test_the_page_needs_nothing_and_runs_nothing(reported):
    text = (reported / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    assert page.links and all(link.startswith("#") for link in page.links)
    assert "http" not in text and "@import" not in text
    assert text.count("url(") == text.count("url(#")
    # Pictures keep their references apart, and every reference leads somewhere.
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert page.tags.count("svg") == 3
    # Every colour of a picture is one of the page, which has a dark one in its place.
    assert "prefers-color-scheme: dark" in text and "fill: var(--ink)" in text
    assert not re.findall(r"#[0-9a-f]{6}", text[text.index("<body>") :])


def test_what_is_wrong_is_red_and_what_is_text_stays_text(reported):
    page = Page((reported / "report.html").read_text(encoding="utf-8"))
    assert (("td", "wrong"), "WRONG") in page.words
    assert any(data == SCRIPT for _, data in page.words)


def test_figures_are_files_of_both_kinds(reported):
    names = {"profile", "memory", "trace-one"}
    held = {path.name for path in (reported / "figures").iterdir()}
    assert held == {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    for name in names:
        assert (reported / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_odd_names_are_text_and_no_paths(tmp_path, no_png):
    problem = selection_problem()
    name = "$a_1$ <b>&amp; ü"
    record = record_of(
        problem, SCRIPT, instance=name, selection=[0, 1], objective=16.0,
        bound=17.0, progress=[[1.0, 16.0, 17.0]],
    )  # fmt: skip
    folder = campaign(tmp_path / "one", {name: problem}, [record])
    write_report(folder, tmp_path / "out")
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "b" not in page.tags and "script" not in page.tags
    assert any(tag == "text" and data == name for (tag, _), data in page.words)
    (trace,) = (tmp_path / "out" / "figures").glob("trace-*.svg")
    assert trace.name == "trace-_a_1_b_amp_.svg"


@pytest.mark.parametrize("text", [None, "", "\n", "{]\n"])
def test_no_records_are_one_sentence(tmp_path, text):
    if text is not None:
        (tmp_path / "records.jsonl").write_text(text)
    with pytest.raises(InvalidInputError, match="give the folder of a campaign") as failure:
        write_report(tmp_path, tmp_path / "out")
    assert "\n" not in str(failure.value)
    assert ("line 1" in str(failure.value)) == (text == "{]\n")
    assert not (tmp_path / "out").exists()


def test_damaged_lines_are_named_and_the_rest_is_read(tmp_path, no_png):
    problem = selection_problem()
    good = record_of(problem, selection=[0, 1], objective=16.0)
    held = json.loads(good.to_json()) | {"key": "other"}
    odd = [{"wall_time": "abc"}, {"time_limit": 0}, {"progress": None}, {"peak_memory": 1e999}]
    lines = [json.dumps(held | change) for change in odd]
    folder = campaign(
        tmp_path / "one", {"one": problem}, [good], "\n".join([*lines, '{"format": "qpm'])
    )
    outcome = CliRunner().invoke(bench, ["report", str(folder)], catch_exceptions=False)
    assert outcome.exit_code == 0 and outcome.stdout.startswith("1 runs")
    for text in (outcome.stderr, (folder / "report" / "report.html").read_text(encoding="utf-8")):
        assert [f"line {number} is passed over" in text for number in range(1, 7)] == (
            [False] + 5 * [True]
        )


def test_what_cannot_be_judged_is_left_out_and_named(tmp_path):
    problem, other = selection_problem(), selection_problem((1.0, 2.0, 3.0, 4.0))
    (tmp_path / "damaged").mkdir()
    records = [
        record_of(problem, selection=[0, 1], objective=16.0),
        record_of(other, selection=[0, 1], objective=3.0),
        record_of(problem, instance="gone"),
        record_of(problem, instance="damaged"),
        record_of(
            problem, "heuristic", selection=[0, 1], objective=16.0,
            progress=[[5.0, 1.0, None], [1.0, 2.0, None]],
        ),
    ]  # fmt: skip
    folder = campaign(tmp_path / "all", {"one": problem}, records)
    (folder / "instances" / "damaged.npz").write_bytes(b"PK")
    (folder / "noise.json").write_text('{"times": [1.0]}')
    results = read_results(folder)
    assert len(results.runs) == 2 and results.noise is None
    found = "\n".join(results.troubles)
    for trouble in (
        "1 runs on one are left out: they solved another problem",
        "1 runs on gone are left out",
        "1 runs on damaged are left out",
        "The progress of heuristic on one cannot be read",
        "noise.json is passed over",
    ):
        assert trouble in found
    assert len(results.troubles) == 5
    (folder / "instances" / "one.npz").unlink()
    with pytest.raises(InvalidInputError, match=r"No record of .* can be judged\. .* on one are"):
        read_results(folder)


def test_nothing_solved_and_no_progress(tmp_path, no_png):
    problem = selection_problem()
    records = [record_of(problem, method, peak_memory=0) for method in ("exact", "heuristic")]
    write_report(campaign(tmp_path / "one", {"one": problem}, records), tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "There is no profile" in text and "There is nothing to draw for one." in text
    assert "No run has its memory measured." in text
    assert "| one | 0 x 4 | 2, 0 | none | no solution | no solution |" in text
    assert not list((tmp_path / "out" / "figures").iterdir())


def test_an_unfinished_campaign_says_so(tmp_path, no_png):
    problem = selection_problem()
    records = [record_of(problem, method) for method in ("exact", "heuristic")]
    more = record_of(problem, "exact", seed=1)
    for name, held in (("all", records), ("some", [*records, more])):
        write_report(campaign(tmp_path / name, {"one": problem}, held), tmp_path / name)
    texts = [(tmp_path / name / "report.md").read_text("utf-8") for name in ("all", "some")]
    assert ["means cannot be compared" in text for text in texts] == [False, True]


def test_a_best_value_of_zero(tmp_path, no_png):
    problem = selection_problem((0.0, 0.0, -1.0, -2.0))
    records = [
        record_of(
            problem, selection=[0, 1], objective=0.0, bound=3.0,
            progress=[[0.0, -3.0, 3.0], [50.0, 0.0, 3.0]],
        ),
        record_of(
            problem, "heuristic", selection=[0, 2], objective=-1.0, progress=[[0.0, -1.0, None]]
        ),
    ]  # fmt: skip
    folder = campaign(tmp_path / "one", {"one": problem}, records)
    write_report(folder, tmp_path / "out")
    rows = rows_of(tmp_path / "out" / "records.csv", "entrant")
    names = ("relative_gap", "primal_gap", "primal_integral", "within_1_percent")
    assert [float(rows["exact"][name]) for name in names] == [np.inf, 0.0, 50.0, 50.0]
    assert [rows["heuristic"][name] for name in names] == ["", "1.0", "100.0", "inf"]
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "| one | 0 x 4 | 2, 0 | 0 | **infinite** | (100 %) |" in text
    # Distances are not relative to 0.
    results = read_results(folder)
    panel = trace_panel(results.instances[0], results.runs)
    assert [line.values for line in panel.lines] == [[-3.0, 0.0], [3.0], [-1.0]]


def judged_of(times, **fields):
    """Judged runs of a problem: solved at the times given, unsolved if inf."""
    problem = selection_problem()
    return [
        Judged(
            record_of(
                problem, method, instance=instance, seed=seed, permutation=permutation,
                bound=10.0 if np.isfinite(time) else 20.0,
                wall_time=min(time, 100.0), **fields,
            ),
            10.0, 10.0,
        )
        for (method, instance, seed, permutation), time in times.items()
    ]  # fmt: skip


def test_one_entrant_alone():
    runs = outcomes(judged_of({("exact", "one", 0, 0): 5.0, ("exact", "two", 0, 0): np.inf}))
    profile = profile_of(runs)
    assert profile.entrants == ["exact"] and profile.without == []
    assert profile.profile.shares.tolist() == [[0.5]]
    assert figures.as_svg(figures.draw_profile(profile, figures.looks(["exact"])), "x")


def test_a_profile_is_of_what_all_have_run():
    runs = outcomes(
        judged_of(
            {
                ("a", "one", 0, 0): 4.0, ("b", "one", 0, 0): 8.0, ("c", "one", 0, 0): np.inf,
                ("a", "two", 0, 0): np.inf, ("b", "two", 0, 0): 8.0, ("c", "two", 0, 0): np.inf,
                ("a", "three", 0, 0): 1.0,
            }
        )
    )  # fmt: skip
    profile = profile_of(runs)
    assert (profile.entrants, profile.without) == (["b", "a"], ["c"])
    assert (profile.n_tasks, profile.n_incomplete) == (2, 1)
    assert profile.profile.ratios.tolist() == [1.0, 2.0]
    assert profile.profile.shares.tolist() == [[0.5, 1.0], [0.5, 0.5]]


def test_runs_in_other_settings_are_other_entrants():
    short = judged_of({("exact", "one", 0, 0): 5.0})
    long = judged_of({("exact", "one", 0, 0): 5.0}, threads=4)
    assert [run.entrant for run in outcomes([*short, *long])] == [
        "exact, 1 thread",
        "exact, 4 threads",
    ]
    assert [run.entrant for run in outcomes(short)] == ["exact"]


def test_several_seeds_and_permutations():
    times = {("exact", "one", 0, 0): 5.0, ("exact", "one", 1, 0): 9.0}
    times |= {("exact", "one", 0, 3): np.inf, ("heuristic", "one", 0, 0): np.inf}
    runs = outcomes(judged_of(times))
    table = spread_table(runs)
    assert table.rows == [
        ["one", "exact", "2 of 3", "9 s (5 s to unsolved)", "0 % (0 % to 100 %)", "0 %"]
    ]
    one = Instance("one", "one", 0, 4, 2, 0, 10.0, True)
    (row,) = instances_table([one], runs).rows
    assert row[4].text == "9 s, 2/3 solved"
    assert spread_table(runs[2:]) is None


def test_series_differ_in_one_size():
    sizes = {"a_1": (10, 30), "a_2": (10, 60), "a_3": (10, 60), "a_4": (20, 60), "b_1": (10, 90)}
    instances = [Instance(n, n[0], C, F, 2, 1, 10.0, True) for n, (C, F) in sizes.items()]
    times = dict(zip(sizes, (1.0, 4.0, 8.0, np.inf, 1.0), strict=True))
    judged = judged_of({("exact", name, 0, 0): time for name, time in times.items()})
    runs = outcomes(judged)
    of_features, of_classes = scaling_series(instances, runs)
    assert (of_features.family, of_features.fixed, of_features.size) == (
        "a",
        "C = 10, p = 2, k = 1",
        "features F",
    )
    assert of_features.points == {"exact": [(30, 1.0), (60, 6.0)]}
    assert of_classes.points == {"exact": [(10, 6.0), (20, np.inf)]}
    # A run that failed is unsolved, one without a licence says nothing.
    for status, median in ((Status.MEMORY, np.inf), (Status.LICENCE, 4.0)):
        unsolved = judged_of({("exact", "a_3", 0, 0): np.inf})[0]
        unsolved = replace(unsolved, record=replace(unsolved.record, status=status))
        others = [run for run in judged if run.record.instance != "a_3"]
        of_features, _ = scaling_series(instances, outcomes([*others, unsolved]))
        assert of_features.points == {"exact": [(30, 1.0), (60, median)]}
    assert figures.as_svg(figures.draw_scaling([of_features], figures.looks(["exact"])), "x")


def test_looks_differ_without_colour():
    held = figures.looks(map(str, range(44))).values()
    assert len({(str(look.dashes), look.marker) for look in held}) == 44


def test_runs_without_a_processor_of_their_own_are_counted(tmp_path, no_png):
    problem = selection_problem()
    shares = {"exact": 99.0, "heuristic": 50.0}
    records = [record_of(problem, name, cpu_time=time) for name, time in shares.items()]
    for name, held in (("one", records[:1]), ("two", records)):
        write_report(campaign(tmp_path / name, {"one": problem}, held), tmp_path / name)
    texts = [(tmp_path / name / "report.md").read_text("utf-8") for name in ("one", "two")]
    assert "of a processor" not in texts[0]
    assert (
        "1 of the 2 runs that went on to their limit had less than 90 % of a processor, the "
        in (texts[1])
    )
    assert "least 50 %" in texts[1]


def test_failures_that_differ_in_numbers_only_share_a_row(tmp_path, no_png):
    problem = selection_problem()
    reasons = ["it has 12 rows", "it has 3.5 rows", "it has no rows", "it has no rows"]
    records = [
        record_of(problem, seed=seed, status=Status.MEMORY, reason=reason)
        for seed, reason in enumerate(reasons)
    ]
    folder = campaign(tmp_path / "one", {"one": problem}, records)
    write_report(folder, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| MEMORY")]
    assert [[cell.strip() for cell in row.strip("|").split("|")][2:] for row in rows] == [
        ["2", "one, one seed 1", "it has 12 rows (the first; others with other numbers)"],
        ["2", "one seed 2, one seed 3", "it has no rows"],
    ]
