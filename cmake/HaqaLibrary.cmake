# haqa_library(NAME LINKS ... [TEST_LINKS ...] [TIMES]): the static library of haqa/NAME, and its test program where it has
# tests; TEST_LINKS are what the tests alone need. TIMES: its tests time programs, one at a time.
# Header, source and test (x.h, x.cpp, x_test.cpp) stand side by side; *_main.cpp files are programs.
include(GoogleTest)

add_library(haqa_options INTERFACE)
target_compile_options(haqa_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wno-missing-field-initializers -Werror)
target_include_directories(haqa_options INTERFACE ${CMAKE_SOURCE_DIR})
# The paths are where things are looked for last; the environment and an installed tree come first (base/file.h).
target_compile_definitions(haqa_options INTERFACE HAQA_VERSION="${PROJECT_VERSION}" HAQA_SOURCE_DATA="${CMAKE_SOURCE_DIR}/data"
  HAQA_LLAMA_BIN_DIR="${HAQA_LLAMA_BIN_DIR}" HAQA_LLAMA_MODELS_DIR="${HAQA_LLAMA_MODELS_DIR}" HAQA_CHART_JS="${HAQA_CHART_JS}")
if(HAQA_SANITIZE)
  # GCC 12 sees uninitialized values in <regex> and overflows in fmt's formats where it also sanitizes.
  target_compile_options(haqa_options INTERFACE -fsanitize=${HAQA_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all
    "$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-stringop-overflow>")
  target_link_options(haqa_options INTERFACE -fsanitize=${HAQA_SANITIZE})
endif()

# Tests are compiled with little optimization: each runs but once.
add_library(haqa_test_options INTERFACE)
target_compile_options(haqa_test_options INTERFACE $<$<CONFIG:RelWithDebInfo>:-O1>)
target_link_libraries(haqa_test_options INTERFACE GTest::gtest_main GTest::gmock)
# Tests find programs and data through these, never through the working directory.
target_compile_definitions(haqa_test_options INTERFACE HAQA_SOURCE_DIR="${CMAKE_SOURCE_DIR}" HAQA_BIN_DIR="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")

function(haqa_library name)
  cmake_parse_arguments(ARG "TIMES" "" "LINKS;TEST_LINKS" ${ARGN})
  set(folder ${CMAKE_SOURCE_DIR}/haqa/${name})
  file(GLOB sources CONFIGURE_DEPENDS ${folder}/*.cpp)
  file(GLOB tests CONFIGURE_DEPENDS ${folder}/*_test.cpp)
  file(GLOB mains CONFIGURE_DEPENDS ${folder}/*_main.cpp)
  if(tests OR mains)
    list(REMOVE_ITEM sources ${tests} ${mains})
  endif()
  add_library(haqa_${name} STATIC ${sources})
  target_link_libraries(haqa_${name} PUBLIC haqa_options ${ARG_LINKS})
  if(HAQA_TESTS AND tests)
    add_executable(haqa_${name}_test ${tests})
    target_link_libraries(haqa_${name}_test PRIVATE haqa_${name} haqa_test_options ${ARG_TEST_LINKS})
    set(timeout 300)
    if(HAQA_SANITIZE)
      set(timeout 1500)
    endif()
    gtest_discover_tests(haqa_${name}_test TEST_PREFIX "${name}." DISCOVERY_TIMEOUT 60
      # Tests run side by side: threads of libtorch that wait must not spin.
      PROPERTIES TIMEOUT ${timeout} RUN_SERIAL ${ARG_TIMES} ENVIRONMENT OMP_WAIT_POLICY=passive)
  endif()
endfunction()
