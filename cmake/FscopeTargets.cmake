# How each side of the picture in docs/ is compiled. Every target goes through one of these, so the
# flags are said once.
#
#   fscope_inside(NAME SOURCES ...)             static library that runs inside a target (libc only)
#   fscope_outside(NAME SOURCES ... LIBS ...)   static library for the tools
#   fscope_bpf(TARGET SOURCES ...)              BPF programs; X.bpf.c gives "collector/bpf/X.skel.h"
#   fscope_tool(NAME [COMPONENT c] SOURCES ... LIBS ...)   installed program; component: tools

add_library(fscope_flags INTERFACE)
target_compile_definitions(fscope_flags INTERFACE _GNU_SOURCE)
target_include_directories(fscope_flags INTERFACE
  ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include ${PROJECT_BINARY_DIR})
set(FSCOPE_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Wvla -Wundef -Wformat=2
  -Wimplicit-fallthrough -Wcast-qual -Wpointer-arith)
target_compile_options(fscope_flags INTERFACE ${FSCOPE_WARNINGS}
  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes> $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>
  -fno-omit-frame-pointer -fno-strict-aliasing
  $<$<BOOL:${FSCOPE_WERROR}>:-Werror>)
# For code that has to be without frame pointers: linked after fscope_flags, as the last flag wins.
add_library(fscope_no_frame_pointer INTERFACE)
target_compile_options(fscope_no_frame_pointer INTERFACE -fomit-frame-pointer)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_definitions(fscope_flags INTERFACE _FORTIFY_SOURCE=2)
  target_compile_options(fscope_flags INTERFACE -fstack-protector-strong -fcf-protection)
endif()
if(FSCOPE_SANITIZE)
  string(REPLACE ";" "," san "${FSCOPE_SANITIZE}")
  target_compile_options(fscope_flags INTERFACE -fsanitize=${san} -fno-sanitize-recover=all)
  target_link_options(fscope_flags INTERFACE -fsanitize=${san})
endif()
if(FSCOPE_FUZZ)
  target_compile_options(fscope_flags INTERFACE -fsanitize=fuzzer-no-link,address,undefined
    -fno-sanitize-recover=all)
  target_link_options(fscope_flags INTERFACE -fsanitize=address,undefined)
endif()

# Inside: no lazy binding, static TLS, nothing the compiler might call that we did not.
add_library(fscope_flags_inside INTERFACE)
target_link_libraries(fscope_flags_inside INTERFACE fscope_flags)
target_compile_definitions(fscope_flags_inside INTERFACE FSCOPE_SOVERSION="${PROJECT_VERSION_MAJOR}")
if(FSCOPE_USDT STREQUAL "NOP1")
  target_compile_definitions(fscope_flags_inside INTERFACE FSCOPE_USDT_NOP1)
elseif(NOT FSCOPE_USDT)
  target_compile_definitions(fscope_flags_inside INTERFACE FSCOPE_NO_USDT)
endif()
target_compile_options(fscope_flags_inside INTERFACE -fno-plt -ftls-model=initial-exec
  -fno-stack-protector)
target_link_options(fscope_flags_inside INTERFACE -Wl,-z,now -Wl,-z,relro
  # clang's sanitizers leave their functions in a shared library for the program to define.
  $<$<NOT:$<OR:$<BOOL:${FSCOPE_IS_SANITIZED}>,$<BOOL:${FSCOPE_FUZZ}>>>:-Wl,-z,defs>)

function(fscope_inside name)
  cmake_parse_arguments(A "" "" "SOURCES;LIBS" ${ARGN})
  add_library(${name} STATIC ${A_SOURCES})
  target_link_libraries(${name} PRIVATE fscope_flags_inside PUBLIC ${A_LIBS})
endfunction()

function(fscope_outside name)
  cmake_parse_arguments(A "" "" "SOURCES;LIBS" ${ARGN})
  add_library(${name} STATIC ${A_SOURCES})
  target_link_libraries(${name} PRIVATE fscope_flags PUBLIC ${A_LIBS})
endfunction()

function(fscope_tool name)
  cmake_parse_arguments(A "" "COMPONENT" "SOURCES;LIBS" ${ARGN})
  if(NOT A_COMPONENT)
    set(A_COMPONENT tools)
  endif()
  add_executable(${name} ${A_SOURCES})
  target_link_libraries(${name} PRIVATE fscope_flags ${A_LIBS})
  install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT ${A_COMPONENT})
endfunction()

# Each X.bpf.c is compiled by clang for the kernel's machine and made into a skeleton, a header that carries the object.
# Its text is bpftool's, hence a system header: not for our warnings.
# Only struct layouts of ours and of the kernel's UAPI are used: what kernel it runs on is found out when it is loaded.
function(fscope_bpf target)
  cmake_parse_arguments(A "" "" "SOURCES" ${ARGN})
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/collector/bpf)
  set(headers)
  foreach(source IN LISTS A_SOURCES)
    get_filename_component(name ${source} NAME)
    string(REPLACE ".bpf.c" "" name ${name})
    set(object ${PROJECT_BINARY_DIR}/collector/bpf/${name}.bpf.o)
    set(skeleton ${PROJECT_BINARY_DIR}/collector/bpf/${name}.skel.h)
    add_custom_command(OUTPUT ${object}
      COMMAND ${FSCOPE_BPF_CLANG} -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Wno-unused-parameter -Werror -I${PROJECT_SOURCE_DIR}
              -idirafter /usr/include/${CMAKE_LIBRARY_ARCHITECTURE} -ffile-prefix-map=${PROJECT_SOURCE_DIR}=.
              -MD -MF ${object}.d -c ${CMAKE_CURRENT_SOURCE_DIR}/${source} -o ${object}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${source} DEPFILE ${object}.d VERBATIM)
    add_custom_command(OUTPUT ${skeleton}
      # A system header: what bpftool writes is neither for our warnings nor for our lint.
      COMMAND sh -c "{ echo '#pragma GCC system_header // NOLINTBEGIN' && ${FSCOPE_BPFTOOL} gen skeleton ${object} name ${name}_bpf && echo '// NOLINTEND'; } > ${skeleton}"
      DEPENDS ${object} VERBATIM)
    list(APPEND headers ${skeleton})
  endforeach()
  target_sources(${target} PRIVATE ${headers})
endfunction()
