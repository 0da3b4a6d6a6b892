from typing import Any

do_bench: Any
do_bench_cudagraph: Any
