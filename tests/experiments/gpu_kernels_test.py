"""Kernels are counted as a program written by hand launches them."""

from tests.experiments import gpu_kernels

PROGRAM = """HloModule by_hand

%body (p: (s32[])) -> (s32[]) {
  %a = s32[] fusion(%p), kind=kLoop, calls=%never_launched
  ROOT %b = s32[] copy(%a)
}

%open (p: (s32[])) -> (s32[]) {
  ROOT %c = s32[] custom-call(%p)
}

%cheap (p: s32[]) -> s32[] {
  ROOT %d = s32[] add(%p, %p)
}

%dear (p: s32[]) -> s32[] {
  ROOT %e = s32[] reduce(%p)
}

ENTRY %main (p: s32[]) -> s32[] {
  %w = (s32[]) while(%p), body=%body, metadata={op_name="scan"}, backend_config={"known_trip_count":{"n":"5"}}
  %o = (s32[]) while(%w), body=%open
  %g = s32[] get-tuple-element(%o), index=0
  ROOT %k = s32[] conditional(%g, %g), branch_computations={%cheap, %dear}
}
"""


def test_loops_count_each_step_and_of_branches_the_dearest():
  """Five steps of two kernels and three of one, each plus one for the loop's condition, and a branch of one."""
  total, loops = gpu_kernels.count(PROGRAM, steps_of_open_loops=3)
  assert total == 5 * (2 + 1) + 3 * (1 + 1) + 1
  assert loops == [(15, 5, "scan"), (6, 3, "open")]
