# Where each dependency is found. Debian's packages, but for llama.cpp, which setup.sh builds.
find_package(Threads REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(fmt REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(CLI11 REQUIRED)
find_package(CURL REQUIRED)
find_package(Eigen3 REQUIRED NO_MODULE)
find_package(NLopt REQUIRED)
if(HAQA_TESTS)
  find_package(GTest REQUIRED)
endif()

# Embedded into every report, so that the page works offline.
find_file(HAQA_CHART_JS chart.min.js PATHS /usr/share/javascript/chart.js REQUIRED)

find_package(PkgConfig REQUIRED)
pkg_check_modules(HWLOC REQUIRED IMPORTED_TARGET hwloc)
add_library(hwloc::hwloc ALIAS PkgConfig::HWLOC)
pkg_check_modules(SECCOMP REQUIRED IMPORTED_TARGET libseccomp)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(JPEG REQUIRED IMPORTED_TARGET libjpeg) # libjpeg-turbo, whose partial decoding the original has not
pkg_check_modules(ICU REQUIRED IMPORTED_TARGET icu-uc)

find_path(VALIJSON_INCLUDE valijson/schema.hpp REQUIRED)
add_library(valijson INTERFACE)
target_include_directories(valijson SYSTEM INTERFACE ${VALIJSON_INCLUDE})

# SOCI brings no file for find_package. Its headers raise warnings of their own.
find_path(SOCI_INCLUDE soci/soci.h REQUIRED)
find_library(SOCI_CORE soci_core REQUIRED)
find_library(SOCI_SQLITE3 soci_sqlite3 REQUIRED)
find_library(SOCI_POSTGRESQL soci_postgresql REQUIRED)
add_library(soci INTERFACE)
pkg_check_modules(LIBPQ REQUIRED IMPORTED_TARGET libpq) # which SOCI's headers include
target_include_directories(soci SYSTEM INTERFACE ${SOCI_INCLUDE})
target_link_libraries(soci INTERFACE ${SOCI_SQLITE3} ${SOCI_POSTGRESQL} ${SOCI_CORE} PkgConfig::LIBPQ)
if(HAQA_SANITIZE)
  target_compile_options(soci INTERFACE -fno-sanitize=vptr) # needs type information that SOCI's libraries hide
endif()

# The classes of ONNX's file format alone: its library of operators is of another version than what we write.
find_package(ONNX CONFIG REQUIRED)
find_package(Protobuf REQUIRED)
add_library(ONNX::proto INTERFACE IMPORTED)
target_link_libraries(ONNX::proto INTERFACE onnx_proto protobuf::libprotobuf)
target_compile_definitions(ONNX::proto INTERFACE ONNX_NAMESPACE=onnx ONNX_ML=1)

# llama.cpp: a folder with include/ and build/bin/ as setup.sh leaves it, or -DHAQA_LLAMA_CPP=DIR, or an
# installed package.
if(NOT HAQA_LLAMA_CPP)
  execute_process(COMMAND ${CMAKE_SOURCE_DIR}/setup.sh --path OUTPUT_VARIABLE llama_path OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(EXISTS ${llama_path}/build/bin/libllama.so)
    set(HAQA_LLAMA_CPP ${llama_path})
  endif()
endif()
add_library(llama::llama INTERFACE IMPORTED)
add_library(llama::ggml-base INTERFACE IMPORTED)
if(HAQA_LLAMA_CPP)
  set(HAQA_LLAMA_BIN_DIR ${HAQA_LLAMA_CPP}/build/bin)
  # models/ holds the vocabularies that `haqa make-model` takes; setup.sh keeps it in source/
  find_path(HAQA_LLAMA_MODELS_DIR ggml-vocab-llama-spm.gguf NO_DEFAULT_PATH NO_CACHE
    PATHS ${HAQA_LLAMA_CPP}/source/models ${HAQA_LLAMA_CPP}/models)
  set(llama_include ${HAQA_LLAMA_CPP}/include)
  if(NOT EXISTS ${llama_include}/ggml.h) # a checkout keeps ggml's headers elsewhere
    list(APPEND llama_include ${HAQA_LLAMA_CPP}/ggml/include)
  endif()
  foreach(library llama ggml ggml-base)
    add_library(llama_so_${library} SHARED IMPORTED)
    set_target_properties(llama_so_${library} PROPERTIES IMPORTED_LOCATION ${HAQA_LLAMA_BIN_DIR}/lib${library}.so
      INTERFACE_INCLUDE_DIRECTORIES "${llama_include}")
  endforeach()
  target_link_libraries(llama::llama INTERFACE llama_so_llama llama_so_ggml llama_so_ggml-base)
  target_link_libraries(llama::ggml-base INTERFACE llama_so_ggml-base)
else()
  find_package(llama REQUIRED)
  target_link_libraries(llama::llama INTERFACE llama)
  target_link_libraries(llama::ggml-base INTERFACE ggml::ggml-base)
  set(HAQA_LLAMA_BIN_DIR ${LLAMA_BIN_DIR})
endif()
message(STATUS "llama.cpp: ${HAQA_LLAMA_BIN_DIR}")

# What a back-end module is compiled against: headers that ggml does not install, of the very version that is linked.
find_path(HAQA_GGML_PRIVATE ggml-backend-impl.h NO_DEFAULT_PATH NO_CACHE
  PATHS ${HAQA_LLAMA_CPP}/source/ggml/src ${HAQA_LLAMA_CPP}/ggml/src)
if(HAQA_GGML_PRIVATE)
  file(STRINGS ${HAQA_GGML_PRIVATE}/../CMakeLists.txt version_lines REGEX "^set\\(GGML_VERSION_(MAJOR|MINOR|PATCH) ")
  string(REGEX MATCHALL "[0-9]+" ggml_version "${version_lines}")
  list(JOIN ggml_version "." ggml_version)
  add_library(llama::ggml-module INTERFACE IMPORTED)
  target_link_libraries(llama::ggml-module INTERFACE llama_so_ggml llama_so_ggml-base)
  target_include_directories(llama::ggml-module SYSTEM INTERFACE ${HAQA_GGML_PRIVATE})
  target_compile_definitions(llama::ggml-module INTERFACE GGML_VERSION_BUILT_FOR="${ggml_version}")
  # The team of threads is to be the host's own, which GCC's runtime is where GCC built it.
  find_package(OpenMP COMPONENTS CXX)
endif()
if(HAQA_GGML_PRIVATE AND OpenMP_CXX_FOUND)
  set(HAQA_PLUGIN ON)
else()
  set(HAQA_PLUGIN OFF)
  message(STATUS "no sources of ggml, or no OpenMP: the back-end module for llama.cpp is left out")
endif()

# libtorch: a folder with include/ and lib/, as in PyPI's wheel. Imported by hand, as find_package(Torch) demands a CUDA
# toolkit for a wheel with CUDA. The libraries that hold CUDA's kernels register themselves when they are loaded, so they
# are linked although nothing names them.
if(NOT HAQA_TORCH)
  execute_process(COMMAND ${CMAKE_SOURCE_DIR}/setup.sh --torch-path OUTPUT_VARIABLE HAQA_TORCH OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
if(NOT EXISTS ${HAQA_TORCH}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "no libtorch in ${HAQA_TORCH}; run ./setup.sh, or set HAQA_TORCH")
endif()
add_library(torch INTERFACE)
# Behind the system's own headers: the wheel's carry another fmt.
target_compile_options(torch INTERFACE "SHELL:-idirafter ${HAQA_TORCH}/include" "SHELL:-idirafter ${HAQA_TORCH}/include/torch/csrc/api/include")
foreach(library c10 torch_cpu torch c10_cuda torch_cuda)
  if(EXISTS ${HAQA_TORCH}/lib/lib${library}.so)
    list(APPEND torch_libraries ${HAQA_TORCH}/lib/lib${library}.so)
  endif()
endforeach()
target_link_libraries(torch INTERFACE -Wl,--no-as-needed ${torch_libraries} -Wl,--as-needed)
# at::parallel_for() stands in a header, which makes a plain loop of it where OpenMP is not there. libtorch's is GCC's.
# ThreadSanitizer does not see how its threads wait for each other.
if(NOT HAQA_SANITIZE MATCHES thread)
  target_compile_options(torch INTERFACE $<$<CXX_COMPILER_ID:GNU>:-fopenmp>)
  target_link_options(torch INTERFACE $<$<CXX_COMPILER_ID:GNU>:-fopenmp>)
endif()
message(STATUS "libtorch: ${HAQA_TORCH}")
