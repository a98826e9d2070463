"""oneDNN's verbose lines: those with v1 by torch 2.13; its head and older forms are composed."""

from __future__ import annotations

import pytest

from corral.backends import onednn_verbose
from corral.backends.onednn_verbose import Execution, flop, operators, parse
from corral.backends.operators import Operator
from corral.backends.torch.profile import join

V3 = """onednn_verbose,v1,info,oneDNN v3.12.0 (commit 1c8df0de478d2c649053050f3440121965f9c7e4)
onednn_verbose,v1,info,cpu,isa:Intel AVX2
onednn_verbose,v1,primitive,info,template:operation,engine,primitive,implementation,prop_kind,memory_descriptors,attributes,auxiliary,problem_desc,exec_time
onednn_verbose,v1,primitive,exec,cpu,reorder,jit:blk,undef,src:f32::blocked:aBcd8b::f0 dst:f32::blocked:abcd::f0,attr-scratchpad:user,,2x8x14x14,0.0090332
onednn_verbose,v1,primitive,exec,cpu,convolution,brg_conv_fwd:avx2,forward_training,src:f32::blocked:acdb::f0 wei:f32:a:blocked:Acdb8a::f0 bia:f32:a:blocked:a::f0 dst:f32::blocked:acdb::f0,attr-scratchpad:user,alg:convolution_direct,mb2_ic3oc8_ih16oh14kh3sh1dh0ph0_iw16ow14kw3sw1dw0pw0,0.0319824
onednn_verbose,v1,primitive,exec,cpu,convolution,jit_dw:avx2,forward_training,src:f32:a:blocked:aBcd8b::f0 wei:f32:a:blocked:Abcde8a::f0 bia:f32:a:blocked:a::f0 dst:f32:a:blocked:aBcd8b::f0,attr-scratchpad:user,alg:convolution_direct,g8mb2_ic8oc8_ih14oh12kh3sh1dh0ph0_iw14ow12kw3sw1dw0pw0,0.012207
"""  # noqa: E501 - a line of oneDNN's is one
CONVOLUTION = "mb1_ic3oc64_ih224oh112kh7sh2dh0ph3_iw224ow112kw7sw2dw0pw3"
REST = (
    "cpu,convolution,jit:avx512_common,forward_inference,src{}f32::blocked:abcd:f0 "
    f"wei{{}}f32::blocked:Acdb16a:f0,post_ops:'eltwise_relu;',alg:convolution_direct,{CONVOLUTION},"
    "0.988037"
)


def test_what_ran_is_read_and_the_rest_passed_over() -> None:
    reorder, plain, depthwise = parse(V3)
    assert reorder == Execution(
        primitive="reorder", implementation="jit:blk", precision="fp32",
        problem="2x8x14x14", ms=0.0090332,
    )  # fmt: skip
    assert (plain.implementation, plain.ms) == ("brg_conv_fwd:avx2", 0.0319824)
    assert flop(reorder) == 0
    assert flop(plain) == 2 * 2 * 8 * 14 * 14 * 3 * 3 * 3
    # Each of 8 groups has one channel.
    assert flop(depthwise) == 2 * 2 * 8 * 12 * 12 * 3 * 3


@pytest.mark.parametrize(
    ("begin", "mark"),
    [
        ("dnnl_verbose,exec", "_"),
        ("onednn_verbose,exec", "_"),
        ("onednn_verbose,1693533460193.346924,exec", "_"),
        ("onednn_verbose,primitive,exec", "_"),
        ("onednn_verbose,1693533460193.346924,primitive,exec", ":"),
        ("onednn_verbose,v1,1.69353e+12,primitive,exec", ":"),
    ],
)
def test_every_versions_lines_say_the_same(begin: str, mark: str) -> None:
    (found,) = parse(f"{begin},{REST.format(mark, mark)}\n")
    assert found == Execution(
        primitive="convolution", implementation="jit:avx512_common", precision="fp32",
        problem=CONVOLUTION, ms=0.988037,
    )  # fmt: skip
    assert flop(found) == 2 * 64 * 112 * 112 * 3 * 7 * 7


@pytest.mark.parametrize(
    "line",
    [
        "",
        "exec,cpu,a,b,c,d,e,f,g,h",
        f"onednn_verbose,create:cache_miss,{REST.format('_', '_')}",
        f"onednn_verbose,v1,graph,exec,{REST.format('_', '_')}",
        f"onednn_verbose,exec,{REST.format('_', '_')[:-8]}",
        f"onednn_verbose,exec,{REST.format('_', '_')}x",
        f"onednn_verbose,exec,{REST.format('_', '_')[:-8]}nan",
        "onednn_verbose,v1,primitive,exec:check,primitive,unused argument,x.cpp:74",
    ],
)
def test_other_and_broken_lines_are_none(line: str) -> None:
    assert parse(line) == []


@pytest.mark.parametrize(
    ("primitive", "problem", "operations"),
    [
        ("inner_product", "mb2ic1152oc10", 2 * 2 * 1152 * 10),
        ("inner_product", "mb1_ic64ih7iw7oc10", 2 * 64 * 49 * 10),
        ("matmul", "2x1152:1152x10", 2 * 2 * 1152 * 10),
        ("matmul", "12x5x3:1x3x4:12x5x4", 2 * 12 * 5 * 3 * 4),
        ("matmul", "what", 0),
        ("deconvolution", "mb1_ic4oc2_ih3oh6kh2_iw3ow6kw2", 2 * 4 * 2 * 9 * 4),
        ("eltwise", "2x8x14x14", 0),
    ],
)
def test_operations_by_the_problem(primitive: str, problem: str, operations: int) -> None:
    ran = Execution(
        primitive=primitive, implementation="", precision="fp32", problem=problem, ms=1.0
    )
    assert flop(ran) == operations


def test_a_row_is_the_mean_of_an_inference() -> None:
    rows = operators(parse(V3) * 4, inferences=2)
    assert [row.type for row in rows] == ["reorder", "convolution", "convolution"]
    assert rows[0].is_reorder
    assert [row.isa for row in rows] == ["", "avx2", "avx2"]
    assert rows[1].calls == 4
    assert rows[1].us == pytest.approx(2 * 31.9824)
    assert rows[1].flop == 2 * flop(parse(V3)[1])
    assert rows[1].precision == "fp32"


@pytest.mark.parametrize(
    ("kernel", "isa"),
    [("brg_conv_fwd:avx10_1_512_amx", "avx10_1_512_amx"), ("jit:avx10_1_512", "avx10_1_512")],
)
def test_names_of_newer_instruction_sets(kernel: str, isa: str) -> None:
    found = Operator(name="", type="", kernel=kernel, precision="int8", calls=1, us=1.0)
    assert found.isa == isa


def _torch(kind: str, us: float) -> Operator:
    return Operator(name=kind, type=kind, kernel=f"aten::{kind}", precision="fp32", calls=3, us=us)


def test_onednns_rows_replace_those_that_call_it_and_the_sum_stays() -> None:
    says = onednn_verbose.operators(parse(V3), 1)
    torch_says = [_torch("mkldnn_convolution", 100.0), _torch("clamp", 7.0), _torch("addmm", 5.0)]
    rows = join(torch_says, says)
    assert [row.type for row in rows] == [
        *("reorder", "convolution", "convolution"),
        *("call", "clamp", "addmm"),
    ]
    assert sum(row.us for row in rows) == pytest.approx(112.0)
    assert join(torch_says, []) == torch_says


def test_products_are_onednns_where_it_says_so() -> None:
    product = Operator(
        name="matmul", type="matmul", kernel="brg:avx512", precision="bf16", calls=3, us=4.0
    )
    rows = join([_torch("addmm", 5.0), _torch("clamp", 7.0)], [product])
    assert [(row.type, row.us) for row in rows] == [("matmul", 4.0), ("call", 1.0), ("clamp", 7.0)]
