"""The reading of machine code, on which the static bounds rest: of listings and compiled kernels.

Run as a script, this file compiles the kernels: one process cannot compile and interpret.
"""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

triton = pytest.importorskip("triton")

import triton.language as tl  # noqa: E402

from benchmarks import sass  # noqa: E402
from benchmarks.roofline import CARDS, Work, predicted_bound  # noqa: E402
from tests.support.checkout import compiling  # noqa: E402

NVIDIA = ("sm_80", "sm_90", "sm_100")
TARGETS = (*NVIDIA, "gfx942")
WARPS = 4


@triton.jit
def add_up(p_x, p_out, n, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for i in range(n):
        total += tl.exp2(tl.load(p_x + i * BLOCK + o))
    tl.store(p_out + o, total)


@triton.jit
def maximum(p_x, p_out, n, BLOCK: tl.constexpr):
    x = tl.load(p_x + tl.arange(0, BLOCK))
    tl.store(p_out, tl.max(x) * n)


@triton.jit
def tally(p_x, p_out, n, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)
    tl.atomic_add(p_out + o, tl.load(p_x + o) * n)


def main():
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    found = {}
    for target in TARGETS:
        cuda = target.startswith("sm_")
        arch = int(target[3:]) if cuda else target
        gpu = GPUTarget("cuda", arch, 32) if cuda else GPUTarget("hip", arch, 64)
        for kernel in (add_up, maximum, tally):
            signature = {"p_x": "*fp32", "p_out": "*fp32", "n": "i32", "BLOCK": "constexpr"}
            aligned = {(i,): [["tt.divisibility", 16]] for i in (0, 1)}
            source = ASTSource(kernel, signature, {(3,): 1024}, aligned)
            compiled = triton.compile(source, target=gpu, options={"num_warps": WARPS})
            name = compiled.metadata.name
            found[f"{target} {name}"] = sass.listing(compiled), asdict(sass.resources(compiled))
    json.dump(found, sys.stdout)


@pytest.fixture(scope="module")
def compiled():
    script = [sys.executable, __file__]
    done = subprocess.run(script, env=compiling(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {
        tuple(case.split()): (sass.parse(listing, case.split()[1]), resources)
        for case, (listing, resources) in json.loads(done.stdout).items()
    }


@pytest.mark.parametrize("target", TARGETS)
def test_a_loop_and_its_loads(compiled, target):
    code, resources = compiled[target, "add_up"]
    values = 1024 // (WARPS * (32 if target in NVIDIA else 64))
    innermost = [loop.instructions for loop in code.loops if loop.innermost]
    assert innermost
    for loop in innermost:
        # Unrolled or not, a load of 16 bytes has four exponentials, each of them a MUFU.
        assert set(loop.loads) == {16} and loop.loads[16] % (values // 4) == 0
        assert loop.kinds["mufu"] == 4 * loop.loads[16]
        assert not loop.stores and not loop.kinds["barrier"] and not loop.kinds["shuffle"]
    assert code.instructions.stores == {16: values // 4}
    assert code.instructions.kinds["local"] == 0
    if target in NVIDIA:
        assert resources["stack"] == resources["local"] == resources["shared"] == 0
        assert resources["resident_warps"] >= 32
    else:
        assert resources["vgpr_spills"] == resources["sgpr_spills"] == resources["scratch"] == 0
        assert 0 < resources["vgpr"] <= 64 and resources["sgpr"] > 0


@pytest.mark.parametrize("target", TARGETS)
def test_a_maximum_meets_across_lanes_and_warps(compiled, target):
    code, resources = compiled[target, "maximum"]
    kinds = code.instructions.kinds
    assert code.loops == ()
    assert kinds["shuffle"] + kinds["redux"] + kinds["dpp"] > 0
    assert kinds["barrier"] > 0 and kinds["shared"] > 0 and kinds["minmax"] > 0
    assert resources["shared" if target in NVIDIA else "lds"] >= 4 * WARPS


@pytest.mark.parametrize("target", TARGETS)
def test_an_atomic_add(compiled, target):
    kinds = compiled[target, "tally"][0].instructions.kinds
    assert kinds["atomic"] > 0 and kinds["store"] == kinds["barrier"] == 0


@pytest.mark.parametrize("target", TARGETS)
def test_every_opcode_is_known(compiled, target):
    """The opcodes of these kernels. LDC and S2R read constants and registers of the system."""
    for (where, _), (code, _) in compiled.items():
        if where == target:
            others = {o for o in code.instructions.opcodes if sass.kind(o) == "other"}
            assert {o.partition(".")[0] for o in others} <= {"LDC", "S2R"}


SLOW_PATHS = """
        .type           kernel,@function
kernel:
.text.kernel:
        /*0000*/                   S2R R0, SR_TID.X ;
        /*0010*/                   BRA.U !UP0, `(.L_x_5) ;
.L_x_1:
        /*0020*/                   LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;
        /*0030*/              @!P1 BRA `(.L_x_2) ;
.L_x_3:
        /*0040*/                   BRA P2, `(.L_x_1) ;
        /*0050*/               @P3 BRA `(.L_x_4) ;
.L_x_5:
        /*0060*/              @!P6 EXIT ;
        /*0070*/                   STG.E.64 desc[UR4][R2.64], R4 ;
        /*0080*/                   EXIT ;
.L_x_2:
        /*0090*/                   MUFU.RCP R4, R4 ;
        /*00a0*/                   BRA `(.L_x_3) ;
.L_x_4:
        /*00b0*/                   F2I.TRUNC.NTZ R4, R4 ;
        /*00c0*/                   BRA `(.L_x_5) ;
.L_x_6:
        /*00d0*/                   BRA `(.L_x_6);
        /*00e0*/                   NOP;
        /*00f0*/                   NOP;
.L_x_7:
"""


def test_slow_paths_belong_to_the_loop_that_reaches_them():
    code = sass.parse(SLOW_PATHS)
    assert code.instructions.total == 13  # neither the last branch to itself nor the padding
    assert code.instructions.kinds == {
        "control": 8, "load": 1, "store": 1, "mufu": 1, "convert": 1, "other": 1
    }  # fmt: skip
    (loop,) = code.loops
    assert (loop.label, loop.innermost) == (".L_x_1", True)
    assert loop.instructions.opcodes == {
        "LDG.E.128.CONSTANT": 1, "BRA": 3, "MUFU.RCP": 1
    }  # fmt: skip
    assert loop.called.total == 0
    assert (loop.instructions.loads, code.instructions.stores) == ({16: 1}, {8: 1})


CALLS = """
kernel:
        /*0000*/                   MOV R4, RZ ;
.L_x_0:
        /*0010*/                   LDG.E R5, [R2.64] ;
        /*0020*/                   CALL.REL.NOINC `($reciprocal) ;
.L_x_1:
        /*0030*/                   FADD R4, R4, R5 ;
        /*0040*/               @P1 BRA `(.L_x_1) ;
        /*0050*/               @P0 CALL.REL.NOINC `(.L_x_2) ;
        /*0060*/                   BRA `(.L_x_0) ;
.L_x_2:
        /*0070*/                   CALL.REL.NOINC `($reciprocal) ;
        /*0080*/                   EXIT ;
$reciprocal:
        /*0090*/                   MUFU.RCP R5, R5 ;
        /*00a0*/                   RET.REL.NODEC R20 `(kernel) ;
"""


def test_a_call_returns_unless_it_leaves_the_loop():
    code = sass.parse(CALLS, "kernel")
    assert code.instructions.total == 11
    outer, inner = code.loops
    assert (outer.label, outer.innermost, inner.label, inner.innermost) == (
        ".L_x_0", False, ".L_x_1", True
    )  # fmt: skip
    # The call at .L_x_2 comes after the loops: no path leads from there to their heads.
    assert (outer.instructions.total, inner.instructions.total) == (8, 2)
    assert outer.called.opcodes == {"MUFU.RCP": 1, "RET.REL.NODEC": 1}


AMD = """
kernel:                                 ; @kernel
\t.loc\t1 30 0 prologue_end             ; kernel.py:30:0
\ts_branch .LBB0_3
.LBB0_2:                                ;   in Loop: Header=BB0_3 Depth=1
\tv_exp_f32_e32 v1, v1
\ts_waitcnt vmcnt(0)
\ts_cbranch_scc0 .LBB0_5
.LBB0_3:                                ; %.lr.ph
\ts_cbranch_execz .LBB0_2
\tglobal_load_dwordx4 v[0:3], v1, s[2:3]
\tbuffer_load_ushort v4, v1, s[4:7], 0
\ts_branch .LBB0_2
.LBB0_5:                                ; %Flow62
\tv_add_f32_dpp v1, v1, v1 row_shr:8 row_mask:0xf bank_mask:0xf
\tds_bpermute_b32 v1, v1, v2
\ts_endpgm
\ts_nop 0
"""


def test_a_loop_whose_end_lies_before_its_head():
    code = sass.parse(AMD)
    (loop,) = code.loops
    assert (loop.label, loop.instructions.total, code.instructions.total) == (".LBB0_3", 7, 11)
    assert loop.instructions.loads == {16: 1, 2: 1}
    assert loop.instructions.kinds["mufu"] == 1
    assert code.instructions.kinds["dpp"] == code.instructions.kinds["shuffle"] == 1


@pytest.mark.parametrize(
    ("opcode", "kind"),
    [
        ("FADD", "fp32"), ("FADD2", "fp32"), ("FFMA.FTZ", "fp32"), ("FMNMX3", "minmax"),
        ("VIMNMX", "minmax"), ("HFMA2.MMA", "half"), ("HADD2.F32", "half"), ("UTCHMMA", "tensor"),
        ("HMMA.16816.F32", "tensor"), ("HGMMA.64x64x16.F32", "tensor"), ("REDUX.MAX.S32", "redux"),
        ("CREDUX.MAX.F32", "redux"), ("RED.E.ADD.F32.FTZ.RN.STRONG.GPU", "atomic"),
        ("ATOMG.E.ADD", "atomic"), ("I2F", "convert"), ("I2FP.F32.S32", "integer"),
        ("IMAD.MOV.U32", "integer"), ("FSEL", "integer"), ("FSETP.GEU.AND", "predicate"),
        ("UISETP.GE.AND", "uniform"), ("ULDC.64", "uniform"), ("LDCU.64", "uniform"),
        ("LDL.64", "local"), ("LDSM.16.M88.4", "shared"), ("WARPSYNC.ALL", "warpsync"),
        ("BAR.SYNC.DEFER_BLOCKING", "barrier"), ("VOTE.ANY", "vote"), ("BRA.U", "control"),
        ("UTMALDG.2D", "other"), ("NEWLY.INVENTED", "other"),
    ],
)  # fmt: skip
def test_kinds(opcode, kind):
    assert sass.kind(opcode) == kind


@pytest.mark.parametrize(
    ("opcode", "bytes_"),
    [
        ("LDG.E", 4), ("LDG.E.U8", 1), ("LDG.E.U16.CONSTANT", 2), ("LDG.E.EF.64", 8),
        ("LDGSTS.E.BYPASS.LTC128B.128", 16), ("buffer_load_dword", 4),
        ("global_load_dwordx3", 12), ("global_load_short_d16_hi", 2), ("buffer_load_ubyte", 1),
    ],
)  # fmt: skip
def test_widths(opcode, bytes_):
    assert sass.width(opcode) == bytes_


@pytest.mark.parametrize(
    ("arch", "registers", "shared", "warps", "resident"),
    [
        (90, 32, 0, 4, 64),
        (90, 32, 0, 1, 32),  # 32 programs
        (90, 57, 0, 4, 32),  # 64 registers a lane: 8 warps a partition
        (90, 94, 0, 8, 16),  # 20 warps fit, and two programs of 8
        (80, 32, 100 << 10, 4, 4),
        (80, 32, 81 << 10, 4, 8),  # 164 KB hold two of 81 + 1
        (90, 32, 227 << 10, 4, 4),
    ],
)
def test_resident_warps(arch, registers, shared, warps, resident):
    assert sass.resident_warps(arch, registers, shared, warps) == resident


@pytest.mark.parametrize(
    ("card", "slots", "slow"),
    [("H100", 17.7, 2.2), ("A100", 19.1, 2.4), ("H200", 12.4, 1.5), ("B200", 8.8, 1.1)],
)
def test_instructions_that_a_bfloat16_affords(card, slots, slow):
    """The counts at which the issue and the slow pipe bind, at the full rate of the memory."""
    shares = predicted_bound(Work(2, slots, slow), CARDS[card]).predicted_shares
    assert shares["memory"] == 1
    assert shares["issue"] == pytest.approx(1, abs=0.01)
    assert shares["slow"] == pytest.approx(1, abs=0.04)
    assert predicted_bound(Work(2, 2 * slots, slow), CARDS[card]).binding == "issue"
    assert predicted_bound(Work(2, slots / 2, slow / 2), CARDS[card]).binding == "memory"
    assert predicted_bound(Work(2, 0, 0, shuffle_lanes=9), CARDS[card]).binding == "shuffle"


if __name__ == "__main__":
    main()
