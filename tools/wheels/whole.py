"""What is put into its callers, whatever that takes: the way of a call becomes one function.

gcc does so by itself below functions that are marked WHOLE (mcext/binding/compat.h), through all files. clang puts in
only what such a function calls directly. So the functions of these ways that clang would leave outside are named here.
A get takes 1,800 instructions with them and 2,170 without; benchmarks/check_limits.py tells whether they are enough.
"""

from __future__ import annotations

import re
from pathlib import Path

HINTED = """
arithmetic decode_plain encode_and_store look_up mc_leg_begin mc_leg_line mc_leg_move mc_leg_ready
mc_leg_receive mc_leg_room mc_leg_store mc_pool_give mc_request_line mcx_ask mcx_bind mcx_cache_begin
mcx_cache_end mcx_cache_key_check mcx_cache_key_of mcx_cache_store_info mcx_call_begin mcx_call_end
mcx_call_finish mcx_conclude mcx_delta mcx_key_single mcx_meta_get mcx_min_compress mcx_move
mcx_record_of mcx_retrieve mcx_select mcx_target_end produce receive store
""".split()
ALWAYS = ["match_flags", "mc_leg_next", "mc_meta_match_hit", "mc_reply_match_get", "mcx_counters_note"]
OPTIMISE = ["--mllvm=-inlinehint-threshold=100000"]


def write_attributes(path: Path, sources: list[Path]) -> list[str]:
    """Writes the list for the compiler; returns the flags that make it read it.

    A name that is no function any more is an error: who takes one out or renames it looks at the limits again.
    """
    text = "\n".join(source.read_text() for source in sources)
    for name in [*HINTED, *ALWAYS]:
        if not re.search(rf"^[^\s#].*\b{name}\(", text, re.MULTILINE):
            raise SystemExit(f"error: tools/wheels/whole.py names {name}, which is no function any more")
    rows = [*(f"{name},inlinehint" for name in HINTED), *(f"{name},alwaysinline" for name in ALWAYS)]
    path.write_text("".join(f"{row}\n" for row in rows))
    return ["-mllvm", f"-forceattrs-csv-path={path}"]
