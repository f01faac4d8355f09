// SPDX-License-Identifier: MIT
//
// Budgets in GoogleTest. A violation fails the test that it happens in, with its stack, and the test goes on;
// without `Budget` as fixture it would abort. The library under test is the system's libjson-c, as it is.

#include "document.h"

#include <fiberscope/profile.h>
#include <gtest/gtest.h>
#include <json-c/json.h>

#include <unistd.h>

#include <memory>

namespace
{

struct Put {
    void operator()(json_object *o) const
    {
        json_object_put(o);
    }
};
using Json = std::unique_ptr<json_object, Put>;

Json parse()
{
    return Json(json_tokener_parse(document));
}

int port_of(json_object *config)
{
    json_object *port = nullptr;
    return json_object_object_get_ex(config, "port", &port) ? json_object_get_int(port) : -1;
}

class Budget : public testing::Test
{
  protected:
    void SetUp() override
    {
        fscope_on_forbidden(on_forbidden, nullptr);
    }
    void TearDown() override
    {
        fscope_on_forbidden(nullptr, nullptr);
    }

  private:
    static void on_forbidden(void *, uint32_t what, size_t bytes, const uintptr_t *stack,
                             uint32_t depth)
    {
        fscope_print_stack(STDERR_FILENO, stack, depth);
        if (what == FSCOPE_ALLOC)
            ADD_FAILURE() << "allocates " << bytes << " bytes, at the stack above";
        else
            ADD_FAILURE() << "waits, at the stack above";
    }
};

TEST_F(Budget, ParsingStaysInIt)
{
    fscope_allocs mark, n;
    ASSERT_EQ(fscope_thread_allocs(nullptr, &mark), 0);
    Json config = parse();
    fscope_thread_allocs(&mark, &n);
    ASSERT_NE(config, nullptr);
    EXPECT_LE(n.objects, static_cast<uint64_t>(PARSE_ALLOCS_MAX)) << n.bytes << " bytes";
}

TEST_F(Budget, LookupAllocatesNothingAndWaitsForNothing)
{
    Json config = parse();
    int port;
    {
        fscope::forbid budget(FSCOPE_ALLOC | FSCOPE_BLOCK);
        port = port_of(config.get());
    }
    EXPECT_EQ(port, 6060);
}

// How a test fails: here by a serializer, whose buffer comes from malloc.
TEST(WithoutFixture, AViolationAbortsAndNamesTheCaller)
{
    Json config = parse();
    EXPECT_DEATH(
        {
            fscope::forbid budget(FSCOPE_ALLOC);
            json_object_to_json_string(config.get());
        },
        "forbidden: an allocation of [0-9]+ bytes(.|\n)*json_object_to_json_string");
}

} // namespace
