// SPDX-License-Identifier: MIT
//
// Allocations per iteration in Google Benchmark: as user counters of a benchmark, and as a memory manager for
// the allocs_per_iter of its JSON output. A benchmark over its budget fails, and so does the program:
// Google Benchmark's own exit status is 0.
//
//     googlebenchmark            exit status 0
//     googlebenchmark violate    with one more benchmark, which is over its budget

#include "document.h"

#include <benchmark/benchmark.h>
#include <fiberscope/profile.h>
#include <json-c/json.h>

#include <string>

namespace
{

bool has_failed;

// Counts while it lives; what it found is in the counters of the benchmark, and judged.
class Allocs
{
  public:
    Allocs(benchmark::State &state, double per_iteration_max)
        : state_(state), max_(per_iteration_max)
    {
        is_seen_ = fscope_thread_allocs(nullptr, &mark_) == 0;
    }
    ~Allocs()
    {
        fscope_allocs n;
        fscope_thread_allocs(&mark_, &n);
        double iterations = static_cast<double>(state_.iterations());
        double objects = static_cast<double>(n.objects) / iterations;
        state_.counters["allocs/op"] = objects;
        state_.counters["B/op"] = static_cast<double>(n.bytes) / iterations;
        if (!is_seen_)
            fail("this program's allocations cannot be seen");
        else if (objects > max_)
            fail("more allocations per iteration than the budget allows");
    }

  private:
    void fail(const char *why)
    {
        has_failed = true;
        state_.SkipWithError(why);
    }
    benchmark::State &state_;
    double max_;
    bool is_seen_;
    fscope_allocs mark_;
};

void Parse(benchmark::State &state)
{
    Allocs allocs(state, PARSE_ALLOCS_MAX);
    for (auto _ : state)
        json_object_put(json_tokener_parse(document));
}
BENCHMARK(Parse);

void Lookup(benchmark::State &state)
{
    json_object *config = json_tokener_parse(document);
    {
        Allocs allocs(state, 0);
        for (auto _ : state) {
            json_object *port = nullptr;
            benchmark::DoNotOptimize(json_object_object_get_ex(config, "port", &port));
        }
    }
    json_object_put(config);
}
BENCHMARK(Lookup);

// Over its budget on purpose.
void TooMuch(benchmark::State &state)
{
    Allocs allocs(state, 1);
    for (auto _ : state)
        json_object_put(json_tokener_parse(document));
}

class Memory : public benchmark::MemoryManager
{
    fscope_allocs mark_;
    void Start() override
    {
        fscope_thread_allocs(nullptr, &mark_);
    }
    void Stop(Result *result) override
    {
        Stop(*result);
    }
    void Stop(Result &result) override
    {
        fscope_allocs n;
        fscope_thread_allocs(&mark_, &n);
        result.num_allocs = static_cast<int64_t>(n.objects);
        result.total_allocated_bytes = static_cast<int64_t>(n.bytes);
    }
};

} // namespace

int main(int argc, char **argv)
{
    Memory memory;
    bool violate = argc > 1 && std::string(argv[1]) == "violate";
    if (violate)
        benchmark::RegisterBenchmark("TooMuch", TooMuch);
    benchmark::RegisterMemoryManager(&memory);
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
    benchmark::RegisterMemoryManager(nullptr);
    return has_failed;
}
