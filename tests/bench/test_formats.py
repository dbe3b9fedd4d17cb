"""Public text formats: small files by hand, round trips, the published files, and bad ones."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpm_bench.formats import (
    read_dimacs,
    read_k_cluster,
    read_max_diversity,
    read_opb,
    read_p_median,
    read_qplib,
    write_instance,
    write_linear_model,
    write_qplib,
)
from qpm_bench.formats.export import FORMATS
from qpm_opt import InvalidInputError, Problem
from qpm_opt.epsilon import max_clique_exact
from tests import oracle
from tests.conftest import random_problem

READERS = {
    "p-median": read_p_median,
    "k-cluster": read_k_cluster,
    "diversity": read_max_diversity,
    "qplib": read_qplib,
    "opb": read_opb,
    "dimacs": read_dimacs,
}

# Path 1-2-3-4-5 with lengths 1, 5, 0, 2; edge 2-3 is given twice, the other way round, last as 5.
P_MEDIAN = "5 5 2\n1 2 1\n2 3 3\n3 4 0\n4 5 2\n3 2 5\n"
# A square with one diagonal and a pendant vertex: the densest three vertices are a triangle.
K_CLUSTER = "5 3 6\n1 2 0.5\n2 3 0.5\n3 4 0.5\n1 4 0.5\n1 3 0.5\n4 5 0.5\n"
DIVERSITY = "4 3\n0 1 1.5\n0 2 2\n0 3 4\n1 2 0.5\n1 3 3\n2 3 2.25\n"
# minimise x1^2 / 2 - 3 x2 x1 + 2 x3 x1 + 4 x3 x2 + 2 x1 - x2 + 2 x3 over x1 + x2 + x3 = 2, in the
# words of the format: defaults, entries that differ, remarks after the numbers.
QPLIB = """! a comment
three # the name
QBL # the type
minimize
3 variables
1 constraint
4 # entries of Q
1 1 1.0 |
2 1 -6.0
3 1 4.0
3 2 8.0
2.0 default value for entries in b_0
1
2 -1.0
0.0 value of q^0
3
1 1 1.0
1 2 1.0
1 3 1.0
1.0E+20 infinity
2.0 c_l
0
0.0 c_u
1
1 2.0
0.0
1
1 1.0
0.0
0
0.0
0
1
2 x_two
0
"""
OPB = """* #variable= 3 #constraint= 1
* minimise (x1 - 6 x1 x2 + 4 x1 x3 + 8 x2 x3 + 4 x1 - 2 x2 + 4 x3) / 2
min: +1 x1 x1 -6 x2 x1 +4 x1 x3
  +8 x2 x3 +4 x1 -2 x2 +4 x3 ;
+1 x3 +1 x1 +1 x2 = 2;
"""
SCALE = {"first": {"objective_function_scale_factor": {"numerator": 4, "denominator": 2}}}
DIMACS = "c a comment\np edge 4 4\ne 1 2\ne 2 3\ne 3 1\ne 3 4\n"
FILES = {
    "p-median": P_MEDIAN,
    "k-cluster": K_CLUSTER,
    "diversity": DIVERSITY,
    "qplib": QPLIB,
    "opb": OPB,
    "dimacs": DIMACS,
}


@pytest.fixture
def read(tmp_path):
    """Function of a format and a text: what the format's reader makes of a file with it."""

    def reader(kind, text):
        path = tmp_path / "instance.txt"
        path.write_text(text)
        return READERS[kind](path)

    return reader


def same(problem, other):
    """Whether two problems have the same data; names and known values do not count."""
    return problem.sha256 == other.sha256


def test_p_median_counts_the_last_of_repeated_edges(read):
    problem = read("p-median", P_MEDIAN)
    assert problem.name == "instance" and "Beasley" in problem.source
    assert (problem.n_selected, problem.n_per_class, problem.distinct) == (2, 1, False)
    assert problem.class_similarity[0].tolist() == [0.0, -1.0, -6.0, -6.0, -8.0]
    assert oracle.optimum(problem) == -3.0  # medians at 1 or 2 and at 3 or 4
    assert not problem.feature_similarity.any() and not problem.bias.any()


def test_k_cluster_counts_edges(read):
    problem = read("k-cluster", K_CLUSTER)
    assert (problem.n_classes, problem.n_selected) == (0, 3)
    assert oracle.optimum(problem) == 3.0
    assert oracle.optimum(replace(problem, n_selected=5)) == 6.0


def test_diversity_adds_distances(read):
    problem = read("diversity", DIVERSITY)
    assert (problem.n_classes, problem.n_selected) == (0, 3)
    assert oracle.optimum(problem) == 8.5  # elements 0, 1 and 3


def test_qplib_halves_every_entry_and_follows_sense_and_defaults(read):
    """Off the diagonal too: so says the library, and so are its files."""

    def original(x):
        x1, x2, x3 = x
        return x1**2 / 2 - 3 * x1 * x2 + 2 * x1 * x3 + 4 * x2 * x3 + 2 * x1 - x2 + 2 * x3

    values = [original(x) for x in ((1, 1, 0), (1, 0, 1), (0, 1, 1))]
    problem = read("qplib", QPLIB)
    assert problem.name == "three"
    assert (problem.n_classes, problem.n_selected) == (0, 2)
    assert oracle.optimum(problem) == -min(values) == 1.5
    assert oracle.optimum(read("qplib", QPLIB.replace("minimize", "Maximize"))) == max(values)


def test_infinity_of_qplib_is_any_number(read):
    largest = "1.79769313486232E+308"
    text = QPLIB.replace("1.0E+20 infinity", f"{largest} infinity")
    assert same(read("qplib", text), read("qplib", QPLIB))
    with pytest.raises(InvalidInputError, match=r"the sides of the constraint are -inf and 2.0"):
        read("qplib", text.replace("2.0 c_l", f"-{largest} c_l"))


def test_linear_objective_of_qplib(read):
    text = QPLIB.replace("QBL", "LBL")
    start, end = text.index("4 # entries"), text.index("2.0 default")
    problem = read("qplib", text[:start] + text[end:])
    assert not problem.feature_similarity.any()
    assert problem.bias.tolist() == [-2.0, 1.0, -2.0]


def test_opb_is_divided_by_the_scale_beside_it(read, tmp_path):
    plain = read("opb", OPB)
    (tmp_path / "instance.json").write_text(json.dumps(SCALE))
    scaled = read("opb", OPB)
    assert same(scaled, read("qplib", QPLIB))
    assert oracle.optimum(plain) == 2 * oracle.optimum(scaled) == 3.0


@pytest.mark.parametrize(
    "text", ["{", "[1]", "{}", json.dumps(SCALE).replace("4", "0"), json.dumps(SCALE)[:-9]]
)
def test_scale_that_is_none_is_refused(read, tmp_path, text):
    (tmp_path / "instance.json").write_text(text)
    with pytest.raises(InvalidInputError, match=r"instance\.json holds no objective_function_"):
        read("opb", OPB)


def test_dimacs_gives_what_the_clique_search_takes(read):
    adjacency = read("dimacs", DIMACS)
    assert adjacency.dtype == bool and not adjacency.diagonal().any()
    assert max_clique_exact(adjacency).clique.tolist() == [0, 1, 2]
    both_ways = DIMACS.replace("edge 4 4", "col 4 5") + "e 4 3\n"
    assert (read("dimacs", both_ways) == adjacency).all()
    assert (read("dimacs", both_ways.replace("4 5", "4 4")) == adjacency).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 8))
def test_p_median_agrees_with_networkx(tmp_path_factory, seed, n):
    rng = np.random.default_rng(seed)
    graph = nx.Graph()
    edges = [(int(rng.integers(i)), i) for i in range(1, n)]  # a tree, so connected
    edges += [tuple(rng.choice(n, 2, replace=False).tolist()) for _ in range(2 * n)]
    text = [f"{n} {len(edges)} {rng.integers(1, n + 1)}"]
    for i, j in edges:
        cost = float(rng.integers(0, 5)) if seed % 2 else rng.random()
        graph.add_edge(i, j, weight=cost)
        text.append(f" {j + 1}  {i + 1} {cost!r} ")
    path = tmp_path_factory.mktemp("graph") / "graph.txt"
    path.write_text("\n".join(text))
    lengths = dict(nx.all_pairs_dijkstra_path_length(graph))
    expected = [[-lengths[i][j] for j in range(n)] for i in range(n)]
    problem = read_p_median(path)
    np.testing.assert_allclose(problem.class_similarity, expected, rtol=1e-12)
    p = problem.n_selected
    cost = min(
        sum(min(lengths[i][j] for j in medians) for i in range(n))
        for medians in combinations(range(n), p)
    )
    assert oracle.optimum(problem) == pytest.approx(-cost)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1.0, 1e-9, 1e9]), name=st.text())
def test_qplib_round_trip_changes_nothing(tmp_path_factory, seed, scale, name):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 8))
    R = scale * np.triu(rng.normal(size=(n, n)) * (rng.random((n, n)) < 0.7), 1)
    b = scale * rng.normal(size=n) * (rng.random(n) < 0.7)
    problem = Problem(
        np.empty((0, n)), R + R.T, b, n_selected=int(rng.integers(1, n + 1)), n_per_class=0,
        distinct=False, name=name.encode(errors="ignore").decode(),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("qplib") / "problem.qplib"
    write_qplib(problem, path)
    again = read_qplib(path)
    assert same(again, problem)
    assert not any(letter.isspace() for letter in again.name)


class Qplib:
    """A model in QPLIB format, read straight from the definition; no code of the package."""

    def __init__(self, path):
        words = [line.split("#")[0].split() for line in path.read_text().splitlines()]
        self.lines = iter(words)
        next(self.lines)
        [self.kind] = next(self.lines)
        assert next(self.lines) == ["maximize"]
        n, m = self.number(), self.number()
        self.Q, self.A = np.zeros((m + 1, n, n)), np.zeros((m + 1, n))
        for i, j, value in self.entries():
            self.Q[0, i, j] = value
        self.A[0] = self.vector(n)
        assert self.number() == 0
        for number, i, j, value in self.entries() if self.kind[2] == "Q" else ():
            self.Q[number + 1, i, j] = value
        for number, i, value in self.entries():
            self.A[number + 1, i] = value
        assert self.number() == 1e20
        self.left, self.right = self.vector(m), self.vector(m)
        for size in (n, m, n):
            self.vector(size)
        assert [self.number(), self.number()] == [0, 0]
        assert next(self.lines, None) is None

    def number(self):
        [word] = next(self.lines)
        return int(word) if word.isdigit() else float(word)

    def entries(self):
        rows = [next(self.lines) for _ in range(self.number())]
        found = [(*(int(word) - 1 for word in row[:-1]), float(row[-1])) for row in rows]
        assert len({row[:-1] for row in found}) == len(found)
        return found

    def vector(self, size):
        vector = np.full(size, float(self.number()))
        for i, value in self.entries():
            vector[i] = value
        return vector

    def optimum(self):
        """Over all binary points."""
        n = self.A.shape[1]
        assert n <= 18
        X = (np.arange(2**n)[:, np.newaxis] >> np.arange(n) & 1).astype(float)

        def values(i):
            return ((X @ self.Q[i]) * X).sum(axis=1) / 2 + X @ self.A[i]

        feasible = np.ones(len(X), dtype=bool)
        for i in range(len(self.left)):
            activity = values(i + 1)
            feasible &= (self.left[i] <= activity) & (activity <= self.right[i])
        return values(0)[feasible].max()


SIDES = {
    "classes": {"distinct": False},
    "must differ": {"distinct": True},
    "feature use": {"distinct": False, "min_classes_per_feature": 1},
    "contrastive pair": {"distinct": False, "contrastive_pairs": np.array([[2, 0]])},
    "candidates": {"distinct": True, "candidate": np.array([True, True, False, True])},
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", SIDES)
def test_qplib_of_classes_has_the_optimum_of_the_problem(tmp_path, kind, seed):
    rng = np.random.default_rng(seed)
    A = np.tile(rng.integers(-3, 9, 4), (3, 1)) + rng.integers(0, 2, (3, 4))
    R = np.triu(rng.integers(-2, 5, (4, 4)), 1)
    problem = Problem(
        A, R + R.T, rng.integers(-2, 3, 4), n_selected=3, n_per_class=2, **SIDES[kind]
    )
    path = tmp_path / "model.qplib"
    write_qplib(problem, path)
    model = Qplib(path)
    assert model.kind == ("QBL" if kind in ("classes", "feature use") else "QBQ")
    assert model.optimum() == oracle.optimum(problem)
    with pytest.raises(InvalidInputError, match=r"exactly one constraint|linear constraints"):
        read_qplib(path)


def test_qplib_of_classes_holds_every_number(tmp_path):
    problem = random_problem(7, n_selected=3, n_per_class=2, distinct=True)
    write_qplib(problem, tmp_path / "model.qplib")
    model = Qplib(tmp_path / "model.qplib")
    F = problem.n_features
    assert (model.A[0, :F] == problem.bias).all()
    assert (model.A[0, F:] == problem.class_similarity.ravel()).all()
    assert (-model.Q[0, :F, :F] / 2 == np.tril(problem.feature_similarity)).all()


def test_qplib_of_selection_without_all_candidates(tmp_path):
    b = np.array([1.0, 5.0, 2.0, 3.0])
    problem = Problem(
        np.empty((0, 4)), 1.0 - np.eye(4), b, n_selected=2, n_per_class=0, distinct=False,
        candidate=np.array([True, False, True, True]),
    )  # fmt: skip
    write_qplib(problem, tmp_path / "model.qplib")
    assert Qplib(tmp_path / "model.qplib").optimum() == oracle.optimum(problem) == 4.0


def test_qplib_refuses_more_products_than_a_file_should_hold(tmp_path):
    large = Problem(np.zeros((200, 300)), np.zeros((300, 300)), n_selected=20, n_per_class=5)
    path = tmp_path / "model.qplib"
    with pytest.raises(InvalidInputError, match=r"200 classes differ takes 5970000 products"):
        write_qplib(large, path)
    assert not path.exists()
    write_qplib(replace(large, distinct=False), path)
    assert path.exists()


@pytest.mark.parametrize("file_format", FORMATS)
def test_any_format_is_written_by_its_name(tmp_path, file_format):
    problem = random_problem(7)
    write_instance(problem, tmp_path / f"one.{file_format}", file_format)
    assert (tmp_path / f"one.{file_format}").stat().st_size
    with pytest.raises(InvalidInputError, match=rf"has not the suffix \.{file_format}"):
        write_instance(problem, tmp_path / "one.txt", file_format)
    with pytest.raises(InvalidInputError, match="no format 'gams'"):
        write_instance(problem, tmp_path / "one.gams", "gams")


OPTIMUM = """
import sys, highspy
solver = highspy.Highs()
solver.silent()
assert solver.readModel(sys.argv[1]) == highspy.HighsStatus.kOk
solver.setOptionValue("threads", 1)
solver.setOptionValue("mip_rel_gap", 0.0)
solver.run()
print(solver.getInfo().objective_function_value, file=sys.stderr)
"""


def optimum_of_file(path):
    run = subprocess.run(
        [sys.executable, "-c", OPTIMUM, str(path)], capture_output=True, text=True, check=True
    )
    return float(run.stderr.split()[-1])


@pytest.mark.parametrize("suffix", [".lp", ".mps"])
@pytest.mark.parametrize(
    "problem",
    [
        random_problem(7, n_selected=3, n_per_class=2, distinct=False),
        random_problem(50, n_selected=3, n_per_class=2, distinct=False, min_classes_per_feature=1),
        random_problem(
            29, n_selected=3, n_per_class=2, distinct=False, contrastive_pairs=np.array([[0, 1]])
        ),
        Problem(np.empty((0, 6)), 1.0 - np.eye(6), np.arange(6) / 3, n_selected=3, n_per_class=0),
    ],
    ids=["classes", "feature use", "contrastive pair", "selection"],
)
def test_linear_model_has_the_optimum_of_the_problem(tmp_path, problem, suffix):
    problem = replace(problem, name="line\nbreak", source="long " * 300)
    path = tmp_path / f"model{suffix}"
    write_linear_model(problem, path)
    assert optimum_of_file(path) == pytest.approx(oracle.optimum(problem))
    text = path.read_text()
    assert problem.sha256 in text and "LEFT OUT" not in text
    assert max(map(len, text.splitlines())) < 255


@pytest.mark.parametrize("suffix", [".lp", ".mps"])
def test_linear_model_says_that_distinctness_is_left_out(tmp_path, suffix):
    A = np.tile([3.0, 2.0, 1.0, 0.0], (3, 1))
    problem = Problem(A, np.zeros((4, 4)), n_selected=3, n_per_class=1)
    path = tmp_path / f"model{suffix}"
    write_linear_model(problem, path)
    assert "LEFT OUT: no two classes" in path.read_text()
    assert optimum_of_file(path) == pytest.approx(9.0)
    assert oracle.optimum(problem) == 6.0


def test_linear_model_keeps_every_digit(tmp_path):
    b = np.array([1 / 3, 0.0, 1e7 / 3])
    problem = Problem(np.empty((0, 3)), np.zeros((3, 3)), b, n_selected=1, n_per_class=0)
    for suffix in (".lp", ".mps"):
        path = tmp_path / f"model{suffix}"
        write_linear_model(problem, path)
        words = path.read_text().split()
        numbers = {float(w) for w in words if w.lstrip("+-").replace(".", "").isdigit()}
        assert {1 / 3, 1e7 / 3} <= numbers


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"use \.lp or \.mps"):
        write_linear_model(random_problem(0), tmp_path / "model.txt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", READERS)
def test_file_cut_anywhere_is_refused(read, kind):
    complete = FILES[kind].splitlines(keepends=True)
    for n_lines in range(len(complete)):
        with pytest.raises(InvalidInputError, match=r"instance\.txt"):
            read(kind, "".join(complete[:n_lines]))


@pytest.mark.parametrize("kind", READERS)
def test_file_with_more_than_it_says_is_refused(read, kind):
    with pytest.raises(InvalidInputError, match=r"instance\.txt, line \d+: "):
        read(kind, FILES[kind] + "7 7 7\n")


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(sorted(READERS)),
    position=st.floats(0.0, 1.0),
    word=st.sampled_from(["nan", "-1", "1e999", "99999999999", "x", "0", "", "2.5", "1_0", "x1"]),
)
def test_one_wrong_word_is_refused_or_read(tmp_path_factory, kind, position, word):
    """No other error than ours, whatever stands in the place of one word."""
    words = re.split(r"(\s+)", FILES[kind].rstrip())  # every other entry is white space
    words[2 * int(position * (len(words) // 2))] = word
    path = tmp_path_factory.mktemp("wrong") / "instance.txt"
    path.write_text("".join(words))
    try:
        READERS[kind](path)
    except InvalidInputError as refusal:
        assert str(path) in str(refusal)


@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_text_file_is_refused(tmp_path, kind):
    path = tmp_path / "instance.txt"
    for content in (None, b"", b" \n\n", b"\xff\xfe\x00binary"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InvalidInputError, match=r"instance\.txt"):
            READERS[kind](path)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        READERS[kind](tmp_path)


@pytest.mark.parametrize(
    ("kind", "old", "new", "message"),
    [
        ("p-median", "5 5 2", "5 5 6", r"line 1: .* p, a whole number from 1 to 5"),
        ("p-median", "4 5 2", "4 6 2", r"line 5: .* a vertex, a whole number from 1 to 5"),
        ("p-median", "4 5 2", "4 5 -2", r"line 5: .* a cost of 0 or more"),
        ("p-median", "4 5 2", "4 5 nan", r"line 5: .* a cost, a number"),
        ("p-median", "4 5 2", "4 5", r"line 5: .* edge 4 of 5 with i, j and a cost"),
        ("p-median", "4 5 2", "4 3 2", "no path from vertex 1 to vertex 5; a connected graph"),
        ("p-median", "5 5 2", "5 6 2", "ends after line 6; edge 6 of 6"),
        ("p-median", "5 5 2", "999999 5 2", "from 1 to 20000"),
        ("k-cluster", "4 5 0.5", "4 5 1", r"line 7: .* the weight 0.5"),
        ("k-cluster", "4 5 0.5", "2 1 0.5", r"line 7: .* not there before"),
        ("k-cluster", "4 5 0.5", "4 4 0.5", r"line 7: .* two different vertices"),
        ("k-cluster", "4 5 0.5", "4 0 0.5", r"line 7: .* an index, a whole number from 1 to 5"),
        ("diversity", "2 3 2.25", "2 4 2.25", r"line 7: .* an index, a whole number from 0 to 3"),
        ("diversity", "2 3 2.25", "2 3 inf", r"line 7: .* a distance, a number"),
        ("diversity", "4 3\n", "5 3\n", "ends after line 7; line 7 of 10"),
        ("qplib", "QBL", "QIL", "binary variables .B., not integer ones"),
        ("qplib", "QBL", "QBQ", "linear constraints .L., not quadratic ones"),
        ("qplib", "QBL", "QBN", "linear constraints .L., not no ones"),
        ("qplib", "QBL", "QP", "a problem type such as QBL"),
        ("qplib", "minimize", "min", "the sense"),
        ("qplib", "1 constraint", "2 constraints", r"line 6: .* exactly one constraint"),
        ("qplib", "0.0 value", "7.0 value", "no constant in the objective"),
        ("qplib", "3 1 4.0", "1 3 4.0", r"line 10: .* of the lower triangle"),
        ("qplib", "3 1 4.0", "2 1 4.0", r"line 10: .* not there before"),
        ("qplib", "1 3 1.0", "1 3 2.0", r"line 19: .* the coefficient 1"),
        ("qplib", "1 3 1.0", "1 2 1.0", r"line 19: .* a new variable"),
        ("qplib", "3\n1 1 1.0\n1 2", "2\n1 2", "a term for each of 3 variables"),
        ("qplib", "c_u\n1\n1 2.0", "c_u\n1\n1 3.0", "the sides of the constraint are 2.0 and 3.0"),
        ("qplib", "2.0 c_l", "1E20", "the sides of the constraint are 1e.20 and 2.0"),
        ("opb", "#variable= 3", "#variables 3", "line 1: .* #variable= n"),
        ("opb", "#constraint= 1", "#constraint= 2", "2 constraints; exactly one"),
        ("opb", "min:", "max:", "the objective 'min:"),
        ("opb", "+8 x2 x3", "+8 x1 x2 x3", "not 3 variables"),
        ("opb", "+8 x2 x3", "+8 x2 ~x3", "no negated variable"),
        ("opb", "+8 x2 x3", "+8 x2 x4", r"in x4 the variable's number, a whole number from 1 to 3"),
        ("opb", "+8 x2 x3", "+8.5 x2 x3", r"in the place of '\+8.5'"),
        ("opb", "+8 x2 x3", "+8" + "0" * 400 + " x2 x3", "coefficients of at most"),
        ("opb", "+1 x2 =", "+2 x2 =", "the cardinality equality"),
        ("opb", "+1 x2 =", "+1 x2 >=", "the cardinality equality"),
        ("opb", "+1 x2 =", "=", "the cardinality equality"),
        ("opb", "= 2;", "= 4;", "p of the cardinality equality, a whole number from 1 to 3"),
        ("dimacs", "p edge", "p sp", "the line 'p edge n m'"),
        ("dimacs", "e 3 4", "e 3 5", r"line 6: .* a vertex, a whole number from 1 to 4"),
        ("dimacs", "e 3 4", "e 3 3", r"line 6: .* different vertices"),
        ("dimacs", "e 3 4", "n 3 4", r"line 6: .* an edge 'e i j'"),
        ("dimacs", "edge 4 4", "edge 4 7", r"an end after 7 edges, not after 4"),
    ],
)  # fmt: skip
def test_refusals_name_place_and_expectation(read, kind, old, new, message):
    assert old in FILES[kind]
    with pytest.raises(InvalidInputError, match=message):
        read(kind, FILES[kind].replace(old, new, 1))


@pytest.mark.parametrize("number", [1, 2, 5, 6, 11, 16, 21, 31])
def test_published_p_medians(data_dir, number):
    problem = read_p_median(data_dir / "raw" / "pmed" / f"pmed{number}.txt")
    assert same(problem, Problem.load(data_dir / "instances" / f"pmed{number}.npz"))


def test_published_qplib_instance(data_dir, tmp_path):
    instance = Problem.load(data_dir / "instances" / "QPLIB_3834.npz")
    assert same(read_opb(data_dir / "raw" / "qplib" / "QPLIB_3834.opb"), instance)
    write_qplib(instance, tmp_path / "QPLIB_3834.qplib")
    assert same(read_qplib(tmp_path / "QPLIB_3834.qplib"), instance)


def test_published_matrices_survive_their_formats(data_dir, tmp_path):
    """The text of these instances is not in the folder: it is written as the library has it."""
    path = tmp_path / "instance.txt"
    clusters = Problem.load(data_dir / "instances" / "kcluster40_025_10_1.npz")
    row, col, _ = clusters.similar_pairs
    lines = [f"{d} {e} 0.5" for d, e in zip(row + 1, col + 1, strict=True)]
    path.write_text("\n".join([f"40 10 {row.size}", *lines]))
    assert same(read_k_cluster(path), clusters)
    diversity = Problem.load(data_dir / "instances" / "GKD-b_1_n25_m2.npz")
    R = diversity.feature_similarity
    lines = [f"{d} {e} {-R[d, e]:.5f}" for d, e in combinations(range(25), 2)]
    path.write_text("\n".join(["25 2", *lines]))
    assert same(read_max_diversity(path), diversity)


def test_published_graphs_survive_their_format(data_dir, tmp_path):
    with open(data_dir / "dimacs" / "clique_numbers.csv", newline="") as stream:
        names = [row["graph"] for row in csv.DictReader(stream)]
    assert names
    for name in names:
        with np.load(data_dir / "dimacs" / f"{name}.npz") as archive:
            n, edges = int(archive["n"]), archive["edges"]
        lines = [f"e {j + 1} {i + 1}" for i, j in edges.tolist()]
        path = tmp_path / f"{name}.clq"
        path.write_text("\n".join([f"c {name}", f"p col {n} {len(edges)}", *lines]))
        adjacency = read_dimacs(path)
        assert (np.argwhere(np.triu(adjacency)) == edges[np.lexsort(edges.T[::-1])]).all()
