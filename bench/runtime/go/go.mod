module fiberscope.invalid/bench/runtime

go 1.25
