# How tests are declared, so that a folder's CMakeLists.txt is a list of them.
#
#   fscope_unit_test(NAME SOURCES ... LIBS ... [TIMEOUT s] [LABELS ...] [SERIAL]
#                    [NOT_UNDER_TSAN])                                           a cmocka program
#   fscope_script_test(NAME SCRIPT [ARGS ...] [TIMEOUT s] [LABELS ...] [COST s]
#                      [SERIAL | WAITS | HALF] [ALONE case ...])                  a python3 or sh script
#   fscope_fuzz_target(NAME SOURCES ... LIBS ... CORPUS dir)               LLVMFuzzerTestOneInput
#
# NOT_UNDER_TSAN: the thread sanitizer delivers signals later, with a context of its own, and has a
# thread of its own; a test of just these things means nothing there.
# SERIAL: runs alone, because it measures. ALONE: only these cases do, as a test NAME.alone; NAME has all others
# (tests/e2e/harness.py). WAITS: most of its time it sleeps, so it counts a third: ctest's -j is three for each processor
# (PROCESSORS), and two more let two that wait run beside two that compute; never three that compute. HALF: about half of its
# time it computes, so it counts two. What runs at one time then asks for no more processors than with these: 2.7.
# COST: about how many seconds it takes; what takes long starts first, also where nothing was measured yet.
# Exit status 77 means that the test, or a case of it,
# cannot run here; for each a line `SKIP: why` says so (tests/unit/skip.h, tests/e2e/harness.py).
# Labels: unit, e2e, conformance, runtime, soak (left out of ./dev test), long (in ./dev soak --full only).

set(FSCOPE_TEST_ENV
  "FSCOPE_BUILD=${PROJECT_BINARY_DIR}" "FSCOPE_SOURCE=${PROJECT_SOURCE_DIR}"
  "FSCOPE_CC=${CMAKE_C_COMPILER}" "FSCOPE_SANITIZE=${FSCOPE_SANITIZE}"
  "XDG_CACHE_HOME=${PROJECT_BINARY_DIR}/test-cache")

# Go's own cache, where it has one: what it compiles for the tests takes a minute, in each build folder if that had its own.
find_program(FSCOPE_GO go PATHS /usr/local/go/bin)
mark_as_advanced(FSCOPE_GO)
if(FSCOPE_GO)
  execute_process(COMMAND ${FSCOPE_GO} env GOCACHE OUTPUT_VARIABLE go_cache OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(IS_ABSOLUTE "${go_cache}")
    list(APPEND FSCOPE_TEST_ENV "GOCACHE=${go_cache}")
  endif()
endif()

# atexit_sleep_ms: else each program, and each child of the model tests, sleeps a second at its end.
# halt_on_error: a report ends the program at once, however it would have ended.
if(FSCOPE_SANITIZE MATCHES "thread")
  list(APPEND FSCOPE_TEST_ENV "TSAN_OPTIONS=atexit_sleep_ms=0:halt_on_error=1")
endif()

function(fscope_test_properties name timeout)
  if(NOT timeout)
    set(timeout 120)
  endif()
  if(FSCOPE_SANITIZE)
    math(EXPR timeout "3 * ${timeout}")
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${timeout} SKIP_RETURN_CODE 77 PROCESSORS 3
    ENVIRONMENT "${FSCOPE_TEST_ENV}")
  if(ARGN)
    set_tests_properties(${name} PROPERTIES LABELS "${ARGN}")
  endif()
endfunction()

# All that `ctest -L unit` and `ctest -L runtime` run: what a sanitizer's runs need to build.
add_custom_target(unit_tests)
add_custom_target(runtime_tests)
add_custom_target(fuzz_targets)

function(fscope_unit_test name)
  cmake_parse_arguments(A "SERIAL;NOT_UNDER_TSAN" "TIMEOUT" "SOURCES;LIBS;LABELS" ${ARGN})
  add_executable(test_${name} ${A_SOURCES})
  add_dependencies(unit_tests test_${name})
  target_link_libraries(test_${name} PRIVATE fscope_flags ${A_LIBS} PkgConfig::CMOCKA)
  if(A_NOT_UNDER_TSAN AND FSCOPE_SANITIZE MATCHES "thread")
    return()
  endif()
  add_test(NAME unit.${name} COMMAND test_${name} WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
  fscope_test_properties(unit.${name} "${A_TIMEOUT}" unit ${A_LABELS})
  set_tests_properties(unit.${name} PROPERTIES RUN_SERIAL "${A_SERIAL}")
endfunction()

function(fscope_script_test name script)
  cmake_parse_arguments(A "SERIAL;WAITS;HALF" "TIMEOUT;COST" "ARGS;LABELS;ALONE" ${ARGN})
  if(A_ALONE)
    fscope_script_test(${name}.alone ${script} ARGS ${A_ALONE} TIMEOUT "${A_TIMEOUT}" LABELS ${A_LABELS} SERIAL)
    set(A_ARGS --without ${A_ALONE})
  endif()
  if(script MATCHES "\\.py$")
    set(runner /usr/bin/python3)
  else()
    set(runner bash)
  endif()
  add_test(NAME ${name} COMMAND ${runner} ${CMAKE_CURRENT_SOURCE_DIR}/${script} ${A_ARGS}
           WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR})
  fscope_test_properties(${name} "${A_TIMEOUT}" ${A_LABELS})
  set_tests_properties(${name} PROPERTIES RUN_SERIAL "${A_SERIAL}")
  if(A_WAITS)
    set_tests_properties(${name} PROPERTIES PROCESSORS 1)
  elseif(A_HALF)
    set_tests_properties(${name} PROPERTIES PROCESSORS 2)
  endif()
  if("go" IN_LIST A_LABELS) # whose tools are compiled first (tests/conformance/go_tools.sh)
    set_tests_properties(${name} PROPERTIES FIXTURES_REQUIRED go_tools)
  endif()
  if(A_COST)
    set_tests_properties(${name} PROPERTIES COST ${A_COST})
  endif()
endfunction()

# Under the fuzz preset the target is a libFuzzer program. In every other preset the same function
# is linked with a driver that replays the corpus, so findings stay fixed without clang.
function(fscope_fuzz_target name)
  cmake_parse_arguments(A "" "CORPUS" "SOURCES;LIBS" ${ARGN})
  if(FSCOPE_FUZZ)
    add_executable(fuzz_${name} ${A_SOURCES})
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    target_link_libraries(fuzz_${name} PRIVATE fscope_flags ${A_LIBS})
  else()
    add_executable(fuzz_${name} ${A_SOURCES} ${PROJECT_SOURCE_DIR}/tests/fuzz/replay.c)
    target_link_libraries(fuzz_${name} PRIVATE fscope_flags ${A_LIBS})
  endif()
  add_dependencies(unit_tests fuzz_${name})
  add_dependencies(fuzz_targets fuzz_${name})
  add_test(NAME fuzz.${name}.corpus COMMAND fuzz_${name} -runs=0 ${CMAKE_CURRENT_SOURCE_DIR}/${A_CORPUS})
  fscope_test_properties(fuzz.${name}.corpus 120 unit)
endfunction()
