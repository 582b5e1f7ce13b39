# Finds the LibTorch of a Python wheel and offers it as hyena::torch (and hyena::torch_cuda).
#
# HYENA_TORCH is the wheel's `torch` folder; scripts/bootstrap writes the one it installed to
# .deps/torch_dir. We do not use the wheel's own CMake config: it enables CUDA, adds eleven GPU
# architectures and does not link with the CPU-only install.
if(NOT HYENA_TORCH)
  if(EXISTS "${PROJECT_SOURCE_DIR}/.deps/torch_dir")
    file(STRINGS "${PROJECT_SOURCE_DIR}/.deps/torch_dir" HYENA_TORCH LIMIT_COUNT 1)
  endif()
endif()
if(NOT EXISTS "${HYENA_TORCH}/lib/libtorch_cpu.so")
  message(FATAL_ERROR
    "LibTorch not found in HYENA_TORCH='${HYENA_TORCH}': run scripts/bootstrap, "
    "or pass -DHYENA_TORCH=<site-packages>/torch of a PyTorch 2.11 wheel.")
endif()

file(STRINGS "${HYENA_TORCH}/include/torch/headeronly/version.h" _torch_version
  REGEX "^#define TORCH_VERSION_(MAJOR|MINOR|PATCH)")
string(REGEX REPLACE ".*MAJOR ([0-9]+).*MINOR ([0-9]+).*PATCH ([0-9]+).*" "\\1.\\2.\\3"
  HYENA_TORCH_VERSION "${_torch_version}")
if(NOT HYENA_TORCH_VERSION MATCHES "^2\\.11\\.")
  message(WARNING "LibTorch ${HYENA_TORCH_VERSION} in ${HYENA_TORCH}: only 2.11 is tested.")
endif()
message(STATUS "LibTorch ${HYENA_TORCH_VERSION} in ${HYENA_TORCH}")

# The wheel carries headers of another fmt without its library. Ours must win wherever both are
# seen, or every message would miss its symbols at link time.
find_path(HYENA_FMT fmt/core.h REQUIRED NO_CMAKE_PATH)
file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/fmt_first")
file(CREATE_LINK "${HYENA_FMT}/fmt" "${CMAKE_BINARY_DIR}/fmt_first/fmt" SYMBOLIC)

add_library(hyena_c10 SHARED IMPORTED)
set_target_properties(hyena_c10 PROPERTIES IMPORTED_LOCATION "${HYENA_TORCH}/lib/libc10.so")
add_library(hyena_torch SHARED IMPORTED)
# The libraries beside the wheel are found at run time through their own RPATH ($ORIGIN/...);
# rpath-link tells the linker where to look while it checks symbols.
set_target_properties(hyena_torch PROPERTIES
  IMPORTED_LOCATION "${HYENA_TORCH}/lib/libtorch_cpu.so"
  INTERFACE_INCLUDE_DIRECTORIES
    "${CMAKE_BINARY_DIR}/fmt_first;${HYENA_TORCH}/include;${HYENA_TORCH}/include/torch/csrc/api/include"
  INTERFACE_LINK_OPTIONS
    "-Wl,-rpath,${HYENA_TORCH}/lib;-Wl,-rpath-link,${HYENA_TORCH}/../nvidia/cu13/lib"
  # at::parallel_for is a template: without OpenMP at our own compile it runs on one thread. Linked
  # to the wheel's libgomp, so that a process has one pool of threads.
  INTERFACE_COMPILE_OPTIONS "$<$<COMPILE_LANGUAGE:CXX>:-fopenmp>"
  INTERFACE_LINK_LIBRARIES "hyena_c10;${HYENA_TORCH}/lib/libgomp.so.1")
add_library(hyena::torch ALIAS hyena_torch)

if(HYENA_CUDA)
  if(NOT EXISTS "${HYENA_TORCH}/../nvidia/cu13/lib/libcublas.so.13")
    message(FATAL_ERROR "The LibTorch in ${HYENA_TORCH} lacks its CUDA libraries: "
      "run scripts/bootstrap --full (5 GB) before configuring with HYENA_CUDA=ON.")
  endif()
  find_package(CUDAToolkit 13 REQUIRED)
  # Nothing in a plain program references libtorch_cuda, so --as-needed would drop it and CUDA
  # would be reported as unavailable.
  add_library(hyena_torch_cuda INTERFACE)
  target_link_libraries(hyena_torch_cuda INTERFACE hyena_torch CUDA::cudart
    "-Wl,--no-as-needed" "${HYENA_TORCH}/lib/libtorch.so" "${HYENA_TORCH}/lib/libtorch_cuda.so"
    "${HYENA_TORCH}/lib/libc10_cuda.so")
  add_library(hyena::torch_cuda ALIAS hyena_torch_cuda)
endif()
